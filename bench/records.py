# SPDX-License-Identifier: Apache-2.0
"""The records of Glance and Cinder, read from their databases.

Their APIs would take time for each answer, which would be measured.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError


class Images:
    """The images of Glance.

    :param database: its file
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def is_active(self, image: str) -> bool:
        """Whether an image is active.

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
    """The snapshots of Cinder.

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
        """Whether each of some volumes has an available snapshot.

        :raises BenchError: one never will be available
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
