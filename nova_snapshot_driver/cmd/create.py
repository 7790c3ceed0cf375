# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot create``: snapshot a domain."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver import metadata
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cinder import Cinder
from nova_snapshot_driver.cmd import cloud
from nova_snapshot_driver.cmd import output
from nova_snapshot_driver.cmd import volume_backed
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.domain import Domain
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy
from nova_snapshot_driver.plan import IMAGE_FORMATS
from nova_snapshot_driver.plan import OF_A_DISK
from nova_snapshot_driver.result import Snapshot

GIB = 1 << 30


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'create',
        parents=[common],
        help='snapshot a domain, into Glance or into a file',
        description='Snapshot the root disk of a domain. A running guest '
        'runs on meanwhile. Where the root disk is a volume in Cinder, all '
        'its volumes are snapshotted there, and the image maps them.',
    )
    parser.add_argument('domain', metavar='DOMAIN', help='its name or UUID')
    parser.add_argument(
        '--name', help='the name of the image (default: DOMAIN and the time)'
    )
    parser.add_argument(
        '--output',
        '-o',
        metavar='FILE',
        help='write the image to a file that does not exist yet, and leave '
        'Glance alone',
    )
    parser.add_argument(
        '--image-format',
        choices=IMAGE_FORMATS,
        help='(default: [libvirt] snapshot_image_format, or as the source)',
    )
    parser.add_argument(
        '--compress',
        action='store_true',
        default=None,
        help='compress a qcow2 image (default: [libvirt] '
        'snapshot_compression)',
    )
    parser.add_argument(
        '--path',
        choices=('auto', *(path.value for path in OF_A_DISK)),
        help='the way to the content of the disk (default: [snapshot] path)',
    )
    parser.add_argument(
        '--quiesce',
        choices=[policy.value for policy in QuiescePolicy],
        help='whether the file systems are frozen by the guest agent '
        '(default: [snapshot] quiesce)',
    )
    parser.add_argument(
        '--pause',
        choices=('auto', 'always', 'never'),
        help='whether a running guest is paused while its volumes are cut '
        '(default: [snapshot] pause)',
    )
    parser.add_argument(
        '--deadline',
        type=int,
        metavar='SECONDS',
        help='the longest time that it may take (default: [snapshot] '
        'deadline)',
    )
    parser.add_argument(
        '--bandwidth',
        type=int,
        metavar='MIB',
        help='how many MiB a second it may read or send (default: [snapshot] '
        'bandwidth)',
    )
    parser.set_defaults(run=run, overrides=overrides)


def overrides(
    arguments: argparse.Namespace,
) -> list[tuple[str, str, object]]:
    """The options of nova.conf that the arguments go before."""
    return [
        ('libvirt', 'snapshot_image_format', arguments.image_format),
        ('libvirt', 'snapshot_compression', arguments.compress),
        ('snapshot', 'path', arguments.path),
        ('snapshot', 'quiesce', arguments.quiesce),
        ('snapshot', 'pause', arguments.pause),
        ('snapshot', 'deadline', arguments.deadline),
        ('snapshot', 'bandwidth', arguments.bandwidth),
    ]


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    with Host.open(conf.libvirt.connection_uri) as host:
        driver = SnapshotDriver(conf, host)
        if arguments.output:
            _require_no_volume(driver.guest(arguments.domain))
            with output.progress_bars() as progress:
                snapshot = driver.snapshot_to_file(
                    Instance(domain=arguments.domain),
                    arguments.output,
                    progress,
                    cancellation,
                )
            result = {'file': arguments.output}
        else:
            snapshot, result = _snapshot_to_glance(
                arguments, conf, driver, cancellation
            )
    result |= dataclasses.asdict(snapshot)
    if arguments.format == 'json':
        output.print_json(result)
    else:
        output.print_record(_in_words(snapshot, result))
    return 0


def _snapshot_to_glance(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    driver: SnapshotDriver,
    cancellation: Cancellation,
) -> tuple[Snapshot, dict[str, Any]]:
    context = cloud.of(arguments, conf)
    glance = Glance(context.glance_access())
    guest = driver.guest(arguments.domain)
    domain = guest.describe()
    if volume_backed.root_volume(domain):
        instance, properties = _of_volumes(guest, domain, context)
    else:
        instance, properties = _of_disk(guest, domain, glance, conf)
    image = glance.create(
        name=arguments.name or _default_name(guest), **properties
    )
    try:
        with output.progress_bars() as progress:
            snapshot = driver.snapshot(
                context,
                instance,
                image.id,
                lambda **_state: None,
                progress,
                cancellation,
            )
    except exception.NotSupported as refusal:
        try:
            glance.delete(image.id)
        except exception.GlanceError as error:
            raise exception.ImageLeftBehind(
                image=image.id, cause=str(refusal), reason=str(error)
            ) from refusal
        raise
    return snapshot, {'image': image.id, 'name': image.name}


def _require_no_volume(guest: Guest) -> None:
    """
    :raises VolumeBacked: the root disk can't be written to a file
    """
    volume = volume_backed.root_volume(guest.describe())
    if volume:
        raise exception.VolumeBacked(domain=guest.name, volume=volume)


def _of_volumes(
    guest: Guest, domain: Domain, context: Context
) -> tuple[Instance, dict[str, Any]]:
    """What is snapshotted, and what is first written on the image."""
    cinder = Cinder(context.cinder_access())
    volumes = [
        cinder.volume(volume) for volume in volume_backed.volumes_of(domain)
    ]
    devices = volume_backed.block_devices(domain, volumes)
    properties = volume_backed.first_properties(domain, volumes[0])
    instance = Instance(
        domain=guest.uuid,
        project_id=domain.project_id,
        block_devices=devices,
    )
    return instance, {**_known(properties), 'visibility': 'private'}


def _of_disk(
    guest: Guest, domain: Domain, glance: Glance, conf: cfg.ConfigOpts
) -> tuple[Instance, dict[str, Any]]:
    """The same, of a root disk that is no volume."""
    base = _base_image(glance, domain)
    instance = Instance(
        domain=guest.uuid,
        project_id=domain.project_id,
        os_type=base.get('os_type'),
        kernel_id=base.get('kernel_id'),
        ramdisk_id=base.get('ramdisk_id'),
        container_format=base.get('container_format') or 'bare',
    )
    return instance, _first_properties(
        guest, domain, base, conf.non_inheritable_image_properties
    )


def _base_image(glance: Glance, domain: Domain) -> dict[str, Any]:
    """The image that Nova made the instance from, if it is still there."""
    if domain.base_image is None:
        return {}
    try:
        return glance.get(domain.base_image).properties
    except exception.ImageNotFound:
        return {}


def _first_properties(
    guest: Guest,
    domain: Domain,
    base: dict[str, Any],
    non_inheritable: list[str],
) -> dict[str, Any]:
    """What nova-api writes on the record of a snapshot's image.

    As ``nova.compute.utils.create_image``.
    """
    disk = domain.root_disk
    smallest_disk = -(-guest.capacity(disk) // GIB) if disk else 0
    properties = {
        **metadata.inherited(base, non_inheritable),
        'image_type': 'snapshot',
        'instance_uuid': guest.uuid,
        'base_image_ref': domain.base_image,
        'user_id': domain.user_id,
        'min_disk': max(smallest_disk, base.get('min_disk') or 0),
        'min_ram': base.get('min_ram') or 0,
        'visibility': 'private',
    }
    return _known(properties)


def _known(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in properties.items() if value is not None
    }


def _default_name(guest: Guest) -> str:
    now = datetime.datetime.now().astimezone()
    return f'{guest.name}-{now:%Y-%m-%d-%H%M%S}'


def _in_words(snapshot: Snapshot, result: dict[str, Any]) -> dict[str, str]:
    def with_reason(what: str, reason: str) -> str:
        return f'{what} ({reason})'

    where = (
        {'Image': result['image'], 'Name': result['name']}
        if 'image' in result
        else {'File': result['file']}
    )
    proof = {'SHA-512': snapshot.sha512} if snapshot.sha512 else {}
    what = (
        {
            'Paused': with_reason(
                'yes' if snapshot.paused else 'no',
                snapshot.paused_reason or '',
            ),
            'Still for': f'{snapshot.still_seconds:.3f} s',
            'Volume snapshots': ', '.join(snapshot.volumes.values()),
        }
        if snapshot.volumes
        else {
            'Streamed': with_reason(
                'yes' if snapshot.streamed else 'no', snapshot.streamed_reason
            ),
            'Format': snapshot.disk_format,
            'Size': f'{snapshot.size} bytes',
            **proof,
        }
    )
    return {
        'Domain': snapshot.domain,
        **where,
        'Path': with_reason(snapshot.method, snapshot.method_reason),
        'Quiesced': with_reason(
            'yes' if snapshot.quiesced else 'no', snapshot.quiesced_reason
        ),
        **what,
        'Seconds': ', '.join(
            f'{step} {seconds:.1f}'
            for step, seconds in snapshot.seconds.items()
        ),
    }
