# SPDX-License-Identifier: Apache-2.0
"""The decisions about a snapshot, without input or output."""
