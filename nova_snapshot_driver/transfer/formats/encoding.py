# SPDX-License-Identifier: Apache-2.0
"""The encoding of an image: its format and its compression."""

from __future__ import annotations

import dataclasses

#: The formats that can be written in one pass, without a temporary file.
STREAMABLE = ('raw', 'qcow2')


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The format of an image, and its compression.

    :ivar format: as Glance calls it: raw, qcow2, vmdk or vdi
    :ivar compression: zstd or zlib, of qcow2 alone; None for none
    :ivar level: of the compression, from 1 (fast) on
    """

    format: str
    compression: str | None = None
    level: int = 1

    def __str__(self) -> str:
        if self.compression is None:
            return self.format
        return f'{self.format}, {self.compression}'
