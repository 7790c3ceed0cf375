# SPDX-License-Identifier: Apache-2.0
"""The arguments that tell QEMU's tools which image to open, and as what."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
from collections.abc import Iterator

from nova_snapshot_driver.clients import blockdev
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.nbd import peer

#: The least number of an inherited descriptor: below are the standard streams
#: and the socket for ``qemu-nbd``, whose numbers are fixed.
_LEAST_DESCRIPTOR = 10


@contextlib.contextmanager
def arguments(view: View) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """The arguments that name a view: its format is given, never probed.

    :returns: also the descriptors that the tool has to inherit
    """
    match view:
        case Export():
            with (
                peer.connected(view) as connection,
                _inherited(connection.fileno()) as descriptor,
            ):
                options = _options(
                    {
                        'driver': 'raw',
                        # A larger export is truncated, and a smaller one
                        # refused.
                        'size': str(view.size),
                        'file.driver': 'nbd',
                        'file.server.type': 'fd',
                        'file.server.str': str(descriptor),
                        'file.export': view.name,
                    }
                )
                yield ['--image-opts', options], (descriptor,)
        case Layer(passphrase=None):
            yield blockdev.arguments(view), ()
        case Layer(passphrase=str(passphrase)):
            with _secret(passphrase) as descriptor:
                yield (
                    [
                        '--object',
                        f'secret,id={blockdev.SECRET},'
                        f'file=/proc/self/fd/{descriptor}',
                        *blockdev.arguments(view),
                    ],
                    (descriptor,),
                )


def _options(options: dict[str, str]) -> str:
    # A comma in a value has to be doubled.
    return ','.join(
        f'{name}={value.replace(",", ",,")}' for name, value in options.items()
    )


@contextlib.contextmanager
def _secret(passphrase: str) -> Iterator[int]:
    """A descriptor from which a child reads a passphrase.

    :param passphrase: in base64
    """
    memory = os.memfd_create('passphrase')
    try:
        os.write(memory, base64.b64decode(passphrase))
        with _inherited(memory) as descriptor:
            yield descriptor
    finally:
        os.close(memory)


@contextlib.contextmanager
def _inherited(descriptor: int) -> Iterator[int]:
    """A copy of a descriptor, which a child inherits under its number."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD, _LEAST_DESCRIPTOR)
    try:
        yield copy
    finally:
        os.close(copy)
