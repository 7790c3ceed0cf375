# SPDX-License-Identifier: Apache-2.0
"""Reading of a disk over NBD."""
