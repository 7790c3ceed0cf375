# SPDX-License-Identifier: Apache-2.0
"""The content of a disk becomes that of an image."""

from __future__ import annotations

from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.transfer import zeros
from nova_snapshot_driver.transfer.clusters import Runs
from nova_snapshot_driver.transfer.content import Content
from nova_snapshot_driver.transfer.qcow2 import Qcow2
from nova_snapshot_driver.transfer.raw import Raw
from nova_snapshot_driver.transfer.source import Source


def encoded(source: Source, encoding: Encoding) -> Content:
    """The image of a source.

    :param encoding: one of those that are ``encoding.STREAMABLE``
    """
    runs = Runs.of_bytes(source.data())
    match encoding:
        case Encoding('raw', None):
            return Raw(source, runs)
        case Encoding('qcow2', None):
            return Qcow2(source, zeros.without(source, runs))
    raise ValueError(f'{encoding} is not written in one pass')
