# SPDX-License-Identifier: Apache-2.0
"""The benchmark: Nova's own driver, this one, and the floor, in one run.

``make bench`` takes snapshots of servers of the lab's cloud, in one way after
the other, and writes what they cost into the documentation.
"""
