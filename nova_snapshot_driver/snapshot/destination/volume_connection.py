# SPDX-License-Identifier: Apache-2.0
"""How this host reaches a volume, in the words of Cinder's drivers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.common.view import Volume as VolumeView
from nova_snapshot_driver.hypervisor.guest import Guest

#: The word for volumes in Ceph.
CEPH = 'rbd'


def snapshot_name(snapshot: str) -> str:
    """The name that a snapshot of Cinder has in Ceph.

    Source: ``snapshot_name_template`` of Cinder

    :param snapshot: its id
    """
    return f'snapshot-{snapshot}'


def view_of(
    guest: Guest,
    volume: Volume,
    connection: Mapping[str, Any],
    size: int,
    ceph: CephSettings,
    passphrase: Callable[[], bytes],
) -> VolumeView:
    """A volume that QEMU's tools open.

    The key of Ceph's user is that of the secret in libvirt that Nova has for
    volumes. Where libvirt keeps that to itself, Ceph looks for a keyring.

    Source: ``cinder.volume.drivers.rbd.RBDDriver.initialize_connection``

    :param connection: ``connection_info`` of an attachment
    :param size: of the disk in the volume, in bytes
    :param passphrase: finds that of an encrypted volume
    :raises VolumeRefused: it is not in Ceph
    """
    kind = connection.get('driver_volume_type')
    if kind != CEPH:
        raise exception.VolumeRefused(
            domain=guest.name,
            reason=f'the volume {volume.id} is reached by {kind}, and only '
            'volumes in Ceph are written',
        )
    # The older API has the fields one level deeper.
    fields = connection.get('data') or connection
    try:
        pool, _, name = fields['name'].partition('/')
        secret, conf = fields.get('secret_uuid'), ceph.conf
        return VolumeView(
            pool=pool,
            name=name,
            size=size,
            monitors=tuple(
                f'{host}:{port}'
                for host, port in zip(
                    fields['hosts'], fields['ports'], strict=True
                )
            ),
            user=fields['auth_username'],
            key=guest.secret(secret) if secret else None,
            conf=conf,
            passphrase=base64.b64encode(passphrase()).decode()
            if fields.get('encrypted')
            else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise exception.VolumeRefused(
            domain=guest.name,
            reason=f'Cinder says in no way that is known how the volume '
            f'{volume.id} is reached ({error!r})',
        ) from error
