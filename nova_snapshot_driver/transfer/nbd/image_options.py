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
from nova_snapshot_driver.common.view import Opened
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
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
        case _:
            with _secrets(view) as descriptors:
                objects = [
                    argument
                    for name, descriptor in descriptors.items()
                    for argument in (
                        '--object',
                        f'secret,id={name},file=/proc/self/fd/{descriptor}',
                    )
                ]
                yield (
                    [*objects, *blockdev.arguments(view)],
                    tuple(descriptors.values()),
                )


def _options(options: dict[str, str]) -> str:
    # A comma in a value has to be doubled.
    return ','.join(
        f'{name}={value.replace(",", ",,")}' for name, value in options.items()
    )


@contextlib.contextmanager
def _secrets(view: Opened) -> Iterator[dict[str, int]]:
    """The descriptors from which a child reads secrets, by their ids."""
    secrets = {
        blockdev.SECRET: view.passphrase,
        blockdev.KEY: view.key if isinstance(view, Volume) else None,
    }
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(_secret(secret))
            for name, secret in secrets.items()
            if secret is not None
        }


@contextlib.contextmanager
def _secret(secret: str) -> Iterator[int]:
    """A descriptor from which a child reads a secret.

    :param secret: in base64
    """
    memory = os.memfd_create('secret')
    try:
        os.write(memory, base64.b64decode(secret))
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
