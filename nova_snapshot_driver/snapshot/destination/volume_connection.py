# SPDX-License-Identifier: Apache-2.0
"""How this host reaches a volume, in the words of Cinder's drivers."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.common.view import Volume as VolumeView

#: The word for volumes in Ceph.
CEPH = 'rbd'

#: The place to which a volume is attached, as Cinder's users see it.
MOUNTPOINT = 'nova-snapshot'


def connector() -> dict[str, Any]:
    """Describe this host as Cinder's driver for Ceph wants to know it.

    Source: ``os_brick.initiator.connector.get_connector_properties``
    """
    return {
        'host': socket.gethostname(),
        'mountpoint': MOUNTPOINT,
        'do_local_attach': False,
    }


def snapshot_name(snapshot: str) -> str:
    """The name that a snapshot of Cinder has in Ceph.

    Source: ``snapshot_name_template`` of Cinder

    :param snapshot: its id
    """
    return f'snapshot-{snapshot}'


def view_of(
    volume: str,
    connection: Mapping[str, Any],
    size: int,
    ceph: CephSettings,
    secret: Callable[[str], str | None],
    passphrase: Callable[[], bytes],
) -> VolumeView:
    """A volume that QEMU's tools open.

    The key of Ceph's user is that of the secret in libvirt that Nova has for
    volumes. Where libvirt keeps that to itself, Ceph looks for a keyring.

    Source: ``cinder.volume.drivers.rbd.RBDDriver.initialize_connection``

    :param volume: its id
    :param connection: ``connection_info`` of Cinder
    :param size: of the disk in the volume, in bytes
    :param secret: finds a secret of libvirt by its UUID
    :param passphrase: finds that of an encrypted volume
    :raises VolumeOutOfReach: it is not in Ceph
    """
    kind = connection.get('driver_volume_type')
    if kind != CEPH:
        raise exception.VolumeOutOfReach(
            volume=volume,
            reason=f'it is reached by {kind}, and only volumes in Ceph are '
            'served',
        )
    # The older API has the fields one level deeper.
    fields = connection.get('data') or connection
    try:
        pool, _, name = fields['name'].partition('/')
        uuid = fields.get('secret_uuid')
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
            key=secret(uuid) if uuid else None,
            conf=ceph.conf,
            passphrase=base64.b64encode(passphrase()).decode()
            if fields.get('encrypted')
            else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise exception.VolumeOutOfReach(
            volume=volume,
            reason=f'Cinder says in no way that is known how it is reached '
            f'({error!r})',
        ) from error
