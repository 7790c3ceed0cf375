# SPDX-License-Identifier: Apache-2.0
"""How QEMU's tools are told which image to open, and as what."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator

from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.view import Export
from nova_snapshot_driver.view import View

#: Beneath it lie the descriptors that are passed by their number: those of
#: the standard streams, and that of libnbd's socket activation.
_LEAST_DESCRIPTOR = 10


@contextlib.contextmanager
def arguments(view: View) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """The arguments that name a view: its format is given, never probed.

    :returns: also the descriptors that the tool has to inherit
    """
    match view:
        case Export(socket, name):
            options = _options(
                {
                    'driver': 'raw',
                    'file.driver': 'nbd',
                    'file.server.type': 'unix',
                    'file.server.path': socket,
                    'file.export': name,
                }
            )
            yield ['--image-opts', options], ()
        case Layer(path, format_, None):
            yield ['-f', format_, path], ()
        case Layer(path, format_, str(passphrase)):
            with _secret(passphrase) as descriptor:
                yield (
                    [
                        '--object',
                        'secret,id=passphrase,'
                        f'file=/proc/self/fd/{descriptor}',
                        '--image-opts',
                        _options(_encrypted(path, format_)),
                    ],
                    (descriptor,),
                )


def _encrypted(path: str, format_: str) -> dict[str, str]:
    is_device = stat.S_ISBLK(os.stat(path).st_mode)
    file = {
        'file.driver': 'host_device' if is_device else 'file',
        'file.filename': path,
    }
    if format_ == 'qcow2':
        return {
            'driver': 'qcow2',
            'encrypt.key-secret': 'passphrase',
            **file,
        }
    return {'driver': 'luks', 'key-secret': 'passphrase', **file}


def _options(options: dict[str, str]) -> str:
    # A comma is doubled, or the next option begins with it.
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
        # Unlike the one it is a copy of, a child inherits it.
        descriptor = fcntl.fcntl(memory, fcntl.F_DUPFD, _LEAST_DESCRIPTOR)
    finally:
        os.close(memory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
