# SPDX-License-Identifier: Apache-2.0
"""The driver in a real cloud, asked for snapshots through its public API.

$NOVA_SNAPSHOT_CONCURRENCY says what nova-compute runs on: ``threading``, or
``eventlet``.
"""
