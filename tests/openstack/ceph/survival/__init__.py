# SPDX-License-Identifier: Apache-2.0
"""Deaths of each participant in a snapshot, at each step of it.

By default a few cases are drawn by lot. ``NOVA_SNAPSHOT_SURVIVAL=all`` has
them all, and ``NOVA_SNAPSHOT_SEED`` the same ones again.
"""
