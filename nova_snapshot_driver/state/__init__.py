# SPDX-License-Identifier: Apache-2.0
"""The records that this host keeps of its snapshots."""
