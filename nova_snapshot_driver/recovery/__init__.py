# SPDX-License-Identifier: Apache-2.0
"""The recovery of guests whose snapshots have died."""
