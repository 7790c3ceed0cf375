# SPDX-License-Identifier: Apache-2.0
"""The care of a chain of files: it is verified, restored from and pruned."""
