# SPDX-License-Identifier: Apache-2.0
"""Clients of the services of a cloud: Glance, Cinder and Ceph."""
