# SPDX-License-Identifier: Apache-2.0
"""How QEMU's tools are told which image to open.

The format of each image is given, never probed, and so are the images beneath
one wherever the domain names them: libvirt starts the guest on those, whatever
the header of the image says.
"""

from __future__ import annotations

import json
from typing import Any

from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import Opened
from nova_snapshot_driver.common.view import Volume

#: The id of a passphrase among the objects of a tool.
SECRET = 'passphrase'  # noqa: S105 (a name)

#: The id of the key of a user of Ceph among them.
KEY = 'key'


def arguments(image: Opened) -> list[str]:
    """The arguments that name an image.

    An image with a passphrase needs it as the object ``SECRET`` beside them,
    and a volume with a key needs that as ``KEY``.
    """
    if isinstance(image, Volume):
        return ['json:' + json.dumps(_of_volume(image))]
    if image.passphrase is None and _is_as_its_header_says(image):
        return ['-f', image.format, image.path]
    return ['json:' + json.dumps(_options(image))]


def _is_as_its_header_says(image: Layer) -> bool:
    # A raw image has no header, and no backing file.
    return image.format == 'raw' or (
        image.backing is None and not image.is_last
    )


def _options(image: Layer) -> dict[str, Any]:
    """Source: ``BlockdevOptions`` in QEMU's QAPI.

    Without the name of a driver QEMU tells a file from a block device.
    """
    options: dict[str, Any] = {
        'driver': image.format,
        'file': {'filename': image.path},
    }
    if image.passphrase is not None:
        options |= _unlocked(image.format)
    if image.backing is not None:
        options['backing'] = _options(image.backing)
    elif image.is_last:
        options['backing'] = None
    return options


def _of_volume(volume: Volume) -> dict[str, Any]:
    """Source: ``BlockdevOptionsRbd`` in QEMU's QAPI."""
    addresses = [each.rpartition(':') for each in volume.monitors]
    options: dict[str, Any] = {
        'driver': 'rbd',
        'pool': volume.pool,
        'image': volume.name,
        'user': volume.user,
        'server': [
            {'host': host.strip('[]'), 'port': port}
            for host, _colon, port in addresses
        ],
    }
    if volume.key is not None:
        options['key-secret'] = KEY
    if volume.conf:
        options['conf'] = volume.conf
    if volume.snapshot is not None:
        options['snapshot'] = volume.snapshot
    if volume.passphrase is not None:
        options = {'driver': 'luks', 'key-secret': SECRET, 'file': options}
    # The rest of the volume is no part of the disk.
    return {'driver': 'raw', 'size': volume.size, 'file': options}


def _unlocked(image_format: str) -> dict[str, str]:
    if image_format == 'qcow2':
        return {'encrypt.key-secret': SECRET}
    return {'driver': 'luks', 'key-secret': SECRET}
