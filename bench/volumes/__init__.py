# SPDX-License-Identifier: Apache-2.0
"""The benchmark of volume-backed servers: Nova's own way, and this driver's.

``make bench-volumes`` takes snapshots of servers whose disks are volumes in
Ceph, and writes into the documentation how long their guests stood still.
"""
