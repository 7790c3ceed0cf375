# SPDX-License-Identifier: Apache-2.0
"""The process that gives a guest back when its snapshot has died.

``watch.py`` starts and ends it.
"""
