# SPDX-License-Identifier: Apache-2.0
"""Chains of files, by what is in their records."""

from __future__ import annotations

from typing import Any

from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.state.chain_record import ChainRecord

UUID = '8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4'
BITMAP = 'nova-snapshot-chain-11111111-2222-3333-4444-555555555555'


def record(name: str, number: int = 1, **fields: Any) -> ChainRecord:
    """A record of a full snapshot, or of one over a parent."""
    defaults: dict[str, Any] = {
        'created': '2026-12-01T02:07:11Z',
        'domain': 'web-1',
        'uuid': UUID,
        'disk': 'vda',
        'size': 1 << 20,
        'parent': None,
        'way': Way.BITMAP if fields.get('parent') else Way.FULL,
        'reason': None,
        'bitmap': BITMAP,
        'stale_bitmaps': (),
        'changed': 0,
        'written': 0,
        'tree': '0' * 64,
    }
    return ChainRecord(name=name, number=number, **{**defaults, **fields})
