# SPDX-License-Identifier: Apache-2.0
"""``qemu-img``, as far as it handles metadata and no content.

The format of an image is always given, never probed: a guest that writes a raw
disk could forge the header of another format.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import Any

from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import blockdev
from nova_snapshot_driver.common import children
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common.view import Layer

#: A crafted image must not exhaust the host (see ``nova.privsep.qemu``).
#: qemu-img reserves much address space that it never uses: 1 GiB is too little
#: now and then.
LIMITS = processutils.ProcessLimits(cpu_time=30, address_space=4 << 30)

TIMEOUT = 120

#: The longest output of qemu-img that is read, in characters. An image may
#: have any number of internal snapshots.
LONGEST_ANSWER = 1 << 20

#: The directories of the host's tools, whatever PATH the service has.
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


#: The words of QEMU's tools for a driver that they lack.
UNKNOWN_DRIVER = 'Unknown driver'

#: How often a command is tried that fails now and then.
ATTEMPTS = 3


def create_overlay(path: str, size: int, backing: Layer | None) -> None:
    """Create an empty qcow2 image.

    :param size: the virtual size in bytes
    :param backing: the backing file; not opened here
    """
    beneath = (
        ['-u', '-b', backing.path, '-F', backing.format] if backing else []
    )
    _run('create', '-q', '-f', 'qcow2', *beneath, path, str(size))


def has_driver(name: str) -> bool:
    """Whether QEMU's tools have a driver, some of which are packages.

    :raises CommandMissing: there are no such tools
    """
    try:
        # Without the name of an image no driver opens any.
        _run('info', '--image-opts', f'driver={name}')
    except exception.CommandFailed as error:
        return UNKNOWN_DRIVER not in error.fields['reason']
    return True


def create_encrypted(path: str, size: int, passphrase: str) -> None:
    """Create an empty qcow2 image that is encrypted with LUKS.

    The key derivation is a short one: opening the image is fast, and the
    passphrase has to be one that nobody can guess, such as Nova's random keys.
    On a busy host qemu-img fails now and then with "Unable to get accurate CPU
    usage".

    :param size: the virtual size in bytes
    :param passphrase: in base64
    """
    retry.call(
        lambda: _run(
            'create',
            *('-q', '-f', 'qcow2'),
            *('--object', 'secret,id=passphrase,file=/dev/stdin'),
            *('-o', 'encrypt.format=luks,encrypt.iter-time=10'),
            *('-o', 'encrypt.key-secret=passphrase'),
            *(path, str(size)),
            standard_input=base64.b64decode(passphrase),
        ),
        f'create {path}',
        exception.CommandFailed,
        attempts=ATTEMPTS,
    )


def backing_chain(domain: str, image: Layer) -> list[Layer]:
    """The images beneath an image, nearest first.

    The images that the domain names come first; where the domain leaves the
    chain open, the headers have the rest of it.

    :raises UnsafeBackingFile: an image names a backing file without its format
    """
    chain: list[Layer] = []
    layer: Layer | None = image
    while layer is not None:
        layer = _backing_of(domain, layer)
        if layer is not None:
            chain.append(layer)
    return chain


def content_bytes(image: Layer) -> int:
    """The most that a flat qcow2 image of the same content would take.

    The look is repeated: the metadata of an image that a guest is writing may
    not be consistent.
    """
    measured = retry.call(
        lambda: _query('measure', '-O', 'qcow2', *_in_use(image)),
        f'measure {image.path}',
        exception.CommandFailed,
        attempts=ATTEMPTS,
    )
    return int(measured['required'])


def allocated_bytes(image: Layer) -> int:
    """The space that a file takes itself, without its backing files."""
    return os.stat(image.path).st_blocks * 512


def virtual_size(image: Layer) -> int:
    """The size in bytes of a disk, as a guest sees it."""
    return int(_info(image)['virtual-size'])


def recorded_backing(image: Layer) -> tuple[str, str | None] | None:
    """The backing file that the header of an image names, and its format.

    Neither is opened, nor is the name made a path.
    """
    info = _info(image)
    match info.get('backing-filename'), info.get('backing-filename-format'):
        case None, _:
            return None
        case str(name), (str() | None) as backing_format:
            return name, backing_format
        case other:
            raise exception.CommandFailed(
                command='qemu-img info', status=0, reason=f'it says {other}'
            )


def _backing_of(domain: str, layer: Layer) -> Layer | None:
    if layer.backing is not None or layer.is_last or layer.format == 'raw':
        return layer.backing
    info = _info(layer)
    path = info.get('full-backing-filename', info.get('backing-filename'))
    if path is None:
        return None
    if 'backing-filename-format' not in info:
        raise exception.UnsafeBackingFile(
            domain=domain, path=layer.path, backing=path
        )
    return Layer(path, info['backing-filename-format'])


def _info(image: Layer) -> dict[str, Any]:
    """The description of one image; its backing files are not opened."""
    return _query('info', '-U', '-f', image.format, image.path)


def _in_use(image: Layer) -> list[str]:
    """The arguments for an image that a guest may be writing now."""
    return ['-U', *blockdev.arguments(image)]


def _query(command: str, *arguments: str) -> dict[str, Any]:
    output = _run(command, '--output=json', *arguments)
    try:
        if len(output) > LONGEST_ANSWER:
            raise ValueError(f'{len(output)} characters')
        match json.loads(output):
            case dict(answer):
                return answer
            case _:
                raise ValueError('something else')
    except (ValueError, RecursionError) as error:
        # qemu-img quotes the image in its complaint.
        raise exception.CommandFailed(
            command=f'qemu-img {command}',
            status=0,
            reason=f'its answer is no JSON, or too long: {error}',
        ) from error


def _run(
    command: str, *arguments: str, standard_input: bytes | None = None
) -> str:
    name = f'qemu-img {command}'
    try:
        output, _ = processutils.execute(
            'qemu-img',
            command,
            *arguments,
            process_input=standard_input,
            prlimit=LIMITS,
            timeout=TIMEOUT,
            env_variables=children.environment(LC_ALL='C', PATH=PATH),
        )
    except processutils.ProcessExecutionError as error:
        raise exception.CommandFailed(
            command=name,
            status=error.exit_code,
            reason=(error.stderr or '').strip(),
        ) from error
    except subprocess.TimeoutExpired as error:
        raise exception.CommandFailed(
            command=name, status='-', reason=f'no end within {TIMEOUT} s'
        ) from error
    return str(output)
