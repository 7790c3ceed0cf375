# SPDX-License-Identifier: Apache-2.0
"""The benchmark of increments into Cinder.

``make bench-increments`` compares the snapshots of a server whose disk changes
more or less with a full one into Glance.
"""
