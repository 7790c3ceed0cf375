# SPDX-License-Identifier: Apache-2.0
"""The image is the disk at the instant, of every kind of source."""

from __future__ import annotations

from lab.options import GuestOptions
from lab.options import Shape
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from tests.functional import exactness


class RawTest(exactness.Exactness):
    options = GuestOptions('exact-raw', Shape.RAW)
    encodings = exactness.STREAMED[:3]


class Qcow2Test(exactness.Exactness):
    options = GuestOptions('exact-qcow2', Shape.QCOW2)
    encodings = (Encoding('raw'), Encoding('qcow2'))


class ChainTest(exactness.Exactness):
    options = GuestOptions('exact-chain', Shape.CHAIN3)
    encodings = (*exactness.STREAMED, Encoding('vmdk'), Encoding('vdi'))


class BlockDeviceTest(exactness.Exactness):
    options = GuestOptions('exact-block', Shape.BLOCK)
    encodings = exactness.STREAMED[:2]


class LuksTest(exactness.Exactness):
    options = GuestOptions('exact-luks', Shape.LUKS)
    encodings = exactness.STREAMED[1:3]
