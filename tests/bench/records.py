# SPDX-License-Identifier: Apache-2.0
"""What Glance and Cinder know, from their databases.

They would take their time for each answer while it is measured.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.errors import BenchError


class Images:
    """Those of Glance.

    :param database: its file
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def is_active(self, image: str) -> bool:
        """Whether one is.

        :raises BenchError: it never will be
        """
        [(status,)] = _read(
            self._database, 'SELECT status FROM images WHERE id = ?', [image]
        )
        if status in ('killed', 'deleted'):
            raise BenchError(
                f'image {image} is {status}: see the log of nova-compute'
            )
        return bool(status == 'active')


class VolumeSnapshots:
    """Those of Cinder.

    :param database: its file
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def of(self, volumes: Sequence[str]) -> dict[str, str]:
        """The status of each snapshot of some volumes, by its id."""
        marks = ', '.join('?' * len(volumes))
        return dict(
            _read(
                self._database,
                'SELECT id, status FROM snapshots '
                f'WHERE NOT deleted AND volume_id IN ({marks})',
                volumes,
            )
        )

    def are_available(self, volumes: Sequence[str]) -> bool:
        """Whether each of some volumes has one that is.

        :raises BenchError: one never will be
        """
        found = list(self.of(volumes).values())
        if 'error' in found:
            raise BenchError(
                'the snapshot of a volume failed: see the log of cinder-volume'
            )
        return found == ['available'] * len(volumes)


def _read(
    database: Path, query: str, values: Sequence[str]
) -> list[tuple[Any, ...]]:
    with contextlib.closing(
        sqlite3.connect(f'file:{database}?mode=ro', uri=True)
    ) as connection:
        return connection.execute(query, values).fetchall()
