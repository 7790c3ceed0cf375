# SPDX-License-Identifier: Apache-2.0
"""The diagnosis of an installation."""
