# SPDX-License-Identifier: Apache-2.0
"""The driver in a cloud whose disks are in Ceph, and that has a Cinder."""
