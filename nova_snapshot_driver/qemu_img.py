# SPDX-License-Identifier: Apache-2.0
"""``qemu-img``, as far as it handles metadata and no content.

The format of an image is always given, never probed: whoever writes the
content of a raw image could choose it otherwise.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import Any

import tenacity
from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import Layer

#: A crafted image must not eat the host (as ``nova.privsep.qemu``). Of its
#: address space qemu-img reserves much that it never uses: 1 GiB is too little
#: now and then.
LIMITS = processutils.ProcessLimits(cpu_time=30, address_space=4 << 30)

TIMEOUT = 120

#: The tools of the host, whatever the environment of the service says.
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


_TRIED_AGAIN = tenacity.retry(
    retry=tenacity.retry_if_exception_type(exception.CommandFailed),
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_fixed(1),
    reraise=True,
)


def create_overlay(path: str, size: int, backing: Layer | None) -> None:
    """Make an empty qcow2 image.

    :param size: the virtual size in bytes
    :param backing: what it lies on; not opened here
    """
    beneath = (
        ['-u', '-b', backing.path, '-F', backing.format] if backing else []
    )
    _run('create', '-q', '-f', 'qcow2', *beneath, path, str(size))


@_TRIED_AGAIN
def create_encrypted(path: str, size: int, passphrase: str) -> None:
    """Make an empty qcow2 image that is encrypted with LUKS.

    It is soon unlocked, at the price that the passphrase has to be one that
    nobody guesses. Those of Nova are random keys. It fails now and then on a
    host that is busy: "Unable to get accurate CPU usage".

    :param size: the virtual size in bytes
    :param passphrase: in base64
    """
    _run(
        'create',
        *('-q', '-f', 'qcow2'),
        *('--object', 'secret,id=passphrase,file=/dev/stdin'),
        *('-o', 'encrypt.format=luks,encrypt.iter-time=10'),
        *('-o', 'encrypt.key-secret=passphrase'),
        *(path, str(size)),
        standard_input=base64.b64decode(passphrase),
    )


def backing_chain(domain: str, image: Layer) -> list[Layer]:
    """The images beneath an image, nearest first.

    :raises UnsafeBackingFile: one names a backing file without its format
    """
    chain: list[Layer] = []
    layer: Layer | None = image
    while layer is not None:
        layer = _backing_of(domain, layer)
        if layer is not None:
            chain.append(layer)
    return chain


@_TRIED_AGAIN
def content_bytes(image: Layer) -> int:
    """How much a flat qcow2 image of the same content would take at most.

    The metadata of an image that a guest writes to may not fit together at
    the first look.
    """
    measured = _query('measure', '-O', 'qcow2', *_in_use(image))
    return int(measured['required'])


def allocated_bytes(image: Layer) -> int:
    """How much a file takes on its file system, without what it lies on."""
    return os.stat(image.path).st_blocks * 512


def _backing_of(domain: str, layer: Layer) -> Layer | None:
    if layer.format == 'raw':
        return None
    info = _query('info', *_in_use(layer))
    path = info.get('full-backing-filename', info.get('backing-filename'))
    if path is None:
        return None
    if 'backing-filename-format' not in info:
        raise exception.UnsafeBackingFile(
            domain=domain, path=layer.path, backing=path
        )
    return Layer(path, info['backing-filename-format'])


def _in_use(image: Layer) -> list[str]:
    """An image that a guest may be writing at this moment."""
    return ['-U', '-f', image.format, image.path]


def _query(command: str, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        _run(command, '--output=json', *arguments)
    )
    return answer


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
            env_variables={'LC_ALL': 'C', 'PATH': PATH},
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
