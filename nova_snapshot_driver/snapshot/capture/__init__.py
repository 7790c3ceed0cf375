# SPDX-License-Identifier: Apache-2.0
"""Views of a disk at one instant."""
