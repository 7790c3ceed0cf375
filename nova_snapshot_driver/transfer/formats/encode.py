# SPDX-License-Identifier: Apache-2.0
"""Encoding of a disk's content as an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.clusters import Runs
from nova_snapshot_driver.transfer.formats.compressed_qcow2 import (
    CompressedQcow2,
)
from nova_snapshot_driver.transfer.formats.compression import Compressor
from nova_snapshot_driver.transfer.formats.content import Content
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.formats.qcow2 import Qcow2
from nova_snapshot_driver.transfer.formats.raw import Raw
from nova_snapshot_driver.transfer.nbd.source import Source

T = TypeVar('T')


def write(
    source: Source, encoding: Encoding, into: Callable[[Content], T]
) -> tuple[Content, T]:
    """Have the image of a source written.

    :param encoding: one of those that are ``encoding.STREAMABLE``
    :param into: writes it from the first byte on; is called once more if the
        image could not be compressed as much as was guessed
    :returns: the image, and what was returned for it
    """
    content = _encoded(source, encoding)
    try:
        return content, into(content)
    except exception.CompressionOverflow:
        if not isinstance(content, CompressedQcow2):
            raise
        content = content.sufficient()
        return content, into(content)


def _encoded(source: Source, encoding: Encoding) -> Content:
    runs = Runs.of_bytes(source.data())
    match encoding:
        case Encoding('raw', None):
            return Raw(source, runs)
        case Encoding('qcow2', None):
            return Qcow2(source, zeros.without(source, runs))
        case Encoding('qcow2', str(algorithm), level):
            return CompressedQcow2(source, runs, Compressor(algorithm, level))
    raise ValueError(f'{encoding} is not written in one pass')
