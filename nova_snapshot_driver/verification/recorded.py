# SPDX-License-Identifier: Apache-2.0
"""The record of a snapshot in Glance and Cinder."""

from __future__ import annotations

import dataclasses
import json

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.snapshot.destination.standing import ShadowSnapshot


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A snapshot in Cinder that was proven when it was taken.

    :ivar snapshot: its record
    :ivar volume: the id of its volume
    """

    snapshot: ShadowSnapshot
    volume: str


def find(name: str, cloud: Context) -> Recorded:
    """The record of a snapshot.

    :param name: the id of the image that maps it, or its own in Cinder
    :raises SnapshotUnverifiable: there is none, or the image and Cinder do not
        agree about it: the owner of both may write anything
    """
    image = _image(name, cloud)
    recorded = _in_cinder(name if image is None else _mapped(image), cloud)
    if image is not None:
        _see_that_they_agree(image, recorded.snapshot)
    return recorded


def _image(name: str, cloud: Context) -> Image | None:
    try:
        return Glance(cloud.glance_access()).get(name)
    except exception.ImageNotFound:
        return None


def _mapped(image: Image) -> str:
    """The id of the only snapshot that an image maps."""
    text = image.properties.get('block_device_mapping')
    try:
        (device,) = json.loads(text or '')
        snapshot = device['snapshot_id']
    except (KeyError, TypeError, ValueError) as error:
        raise _unverifiable(
            image.id, 'it is an image that does not map one snapshot in Cinder'
        ) from error
    if not isinstance(snapshot, str):
        raise _unverifiable(image.id, 'the mapping of its image is damaged')
    return snapshot


def _in_cinder(snapshot: str, cloud: Context) -> Recorded:
    try:
        found = CinderVolumes(cloud.cinder_access()).snapshot(snapshot)
    except exception.VolumeNotFound as error:
        raise _unverifiable(
            snapshot, 'there is no image and no snapshot in Cinder of this id'
        ) from error
    record = ShadowSnapshot.of(found)
    if record is None:
        raise _unverifiable(
            snapshot,
            'Cinder has no hash of it: it is not complete, or this driver has '
            'not taken it',
        )
    return Recorded(record, found.volume)


def _see_that_they_agree(image: Image, snapshot: ShadowSnapshot) -> None:
    if snapshot.image != image.id:
        raise _unverifiable(
            image.id,
            f'it maps the snapshot {snapshot.id}, which was taken for the '
            f'image {snapshot.image}',
        )
    if image.properties.get('snapshot_tree_sha256') != snapshot.tree:
        raise _unverifiable(
            image.id,
            'the image and Cinder have different hashes of it: somebody has '
            'changed one of them',
        )


def _unverifiable(
    snapshot: str, reason: str
) -> exception.SnapshotUnverifiable:
    return exception.SnapshotUnverifiable(snapshot=snapshot, reason=reason)
