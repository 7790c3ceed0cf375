# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot create``: snapshot a domain."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import sys
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.clients.image import Image
from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.cmd.shared import into_chain
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.cmd.shared import volume_backed
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.snapshot import space
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import IMAGE_FORMATS
from nova_snapshot_driver.snapshot.plan.model import OF_A_DISK
from nova_snapshot_driver.snapshot.plan.planner import source_of
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.takings import glance_image

GIB = 1 << 30


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'create',
        parents=[_options(), common],
        help='snapshot a domain, into Glance, a file or a chain of files',
        description='Snapshot the root disk of a domain. A running guest '
        'runs on meanwhile. Where the root disk is a volume in Cinder, all '
        'its volumes are snapshotted there, and the image maps them.',
    )
    parser.set_defaults(run=run, overrides=overrides)


def _options() -> argparse.ArgumentParser:
    """The options of this command alone; help lists them first."""
    parser = argparse.ArgumentParser(add_help=False)
    _add_what(parser.add_argument_group('what'))
    _add_how(parser.add_argument_group('how'))
    _add_limits(parser.add_argument_group('limits'))
    return parser


def _add_what(group: argparse._ArgumentGroup) -> None:
    group.add_argument('domain', metavar='DOMAIN', help='its name or UUID')
    group.add_argument(
        '--name',
        help='the name of the image (default: DOMAIN and the time), or of the '
        'snapshot in a chain (default: the time)',
    )
    group.add_argument(
        '--output',
        '-o',
        metavar='FILE',
        help='write the image to a file that does not exist yet, and leave '
        'Glance alone',
    )
    into_chain.add_option(group)
    group.add_argument(
        '--image-format',
        choices=IMAGE_FORMATS,
        help='the format of the image (default: [libvirt] '
        'snapshot_image_format, or that of the disk)',
    )
    group.add_argument(
        '--compress',
        action='store_true',
        default=None,
        help='compress a qcow2 image (default: [libvirt] '
        'snapshot_compression)',
    )


class _FormerName(argparse.Action):
    """An option by its former name: accepted, with a warning."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option_string: str | None = None,
    ) -> None:
        former = self.option_strings[0]
        print(
            f'{parser.prog}: warning: {former} is deprecated, use '
            f'--{self.dest}',
            file=sys.stderr,
        )
        setattr(namespace, self.dest, values)


def _add_how(group: argparse._ArgumentGroup) -> None:
    methods = ('auto', *(method.value for method in OF_A_DISK))
    group.add_argument(
        '--method',
        choices=methods,
        help='how the disk is captured (default: [snapshot] method)',
    )
    group.add_argument(
        '--path',
        dest='method',
        choices=methods,
        action=_FormerName,
        help=argparse.SUPPRESS,
    )
    group.add_argument(
        '--quiesce',
        choices=[policy.value for policy in QuiescePolicy],
        help='whether the file systems are frozen by the guest agent '
        '(default: [snapshot] quiesce)',
    )
    group.add_argument(
        '--pause',
        choices=('auto', 'always', 'never'),
        help='whether a running guest is paused while the snapshots of its '
        'volumes are created (default: [snapshot] pause)',
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--deadline',
        type=int,
        metavar='SECONDS',
        help='the longest time a snapshot may take (default: [snapshot] '
        'deadline)',
    )
    group.add_argument(
        '--bandwidth',
        type=int,
        metavar='MIB',
        help='the MiB a second that the snapshot may read or send (default: '
        '[snapshot] bandwidth)',
    )


def overrides(
    arguments: argparse.Namespace,
) -> list[tuple[str, str, object]]:
    """The arguments that override options of nova.conf."""
    return [
        ('libvirt', 'snapshot_image_format', arguments.image_format),
        ('libvirt', 'snapshot_compression', arguments.compress),
        ('snapshot', 'method', arguments.method),
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
    if arguments.into is None:
        _require_legal_name(arguments.name)
    else:
        into_chain.require_honourable(arguments)
    with Host.open(conf.libvirt.connection_uri) as host:
        settings = read_settings(conf)
        driver = SnapshotDriver(settings, host)
        guest = Healer(settings.undo, host).guest(arguments.domain)
        if arguments.output is not None:
            _require_no_volume(guest)
            with output.progress_bars() as progress:
                snapshot = driver.snapshot_to_file(
                    Instance(domain=arguments.domain),
                    arguments.output,
                    progress,
                    cancellation,
                )
            result = {'image': None, 'name': None, 'file': arguments.output}
        elif arguments.into is not None:
            _require_no_volume(guest)
            snapshot, result = into_chain.take(arguments, driver, cancellation)
        else:
            snapshot, result = _snapshot_to_glance(
                arguments, conf, driver, guest, cancellation
            )
    result |= snapshot.to_dict()
    if arguments.format == 'json':
        output.print_json(result)
    else:
        output.print_record(_in_words(snapshot, result))
    return 0


def _snapshot_to_glance(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    driver: SnapshotDriver,
    guest: Guest,
    cancellation: Cancellation,
) -> tuple[Snapshot, dict[str, Any]]:
    context = cloud.of(arguments, conf)
    glance = Glance(context.glance_access())
    domain = guest.describe()
    if volume_backed.root_volume(domain):
        instance, properties = _of_volumes(guest, domain, context)
    else:
        instance, properties = _of_disk(guest, domain, glance, conf)
    name = _default_name(guest) if arguments.name is None else arguments.name
    image, dropped = _create_image(glance, name, properties)
    with (
        _deleted_on(exception.NotSupported, glance, image.id),
        output.progress_bars() as progress,
    ):
        snapshot = driver.snapshot(
            context,
            instance,
            image.id,
            lambda **_state: None,
            progress,
            cancellation,
        )
    snapshot = dataclasses.replace(
        snapshot, properties_dropped=dropped + snapshot.properties_dropped
    )
    return snapshot, {'image': image.id, 'name': image.name, 'file': None}


def _create_image(
    glance: Glance, name: str, properties: dict[str, Any]
) -> tuple[Image, tuple[str, ...]]:
    """
    :returns: the image, and the names of the properties that it lacks, since
        Glance has refused them
    :raises GlanceError: one is refused that is not optional
    """
    try:
        return glance.create(name=name, **properties), ()
    except exception.GlanceUnavailable:
        raise
    except exception.GlanceError:
        needed, optional = metadata.by_need(properties)
        if not optional:
            raise
    image = glance.create(name=name, **needed)
    with _deleted_on(BaseException, glance, image.id):
        return image, metadata.write_optional(glance, image.id, optional)


@contextlib.contextmanager
def _deleted_on(
    kind: type[BaseException], glance: Glance, image: str
) -> Iterator[None]:
    """Delete an image where the context ends in an error of a kind.

    :raises ImageLeftBehind: it can't be deleted
    """
    try:
        yield
    except kind as cause:
        glance_image.discard(lambda: glance, image, cause)
        raise


def _require_legal_name(name: str | None) -> None:
    """
    :param name: that somebody has chosen, and that is not changed
    :raises NameInvalid: Glance would refuse it
    """
    why = None if name is None else naming.refusal(name)
    if why is not None:
        raise exception.NameInvalid(name=repr(name), reason=why)


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
    """The volume-backed instance, and the first properties of its image."""
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
    """The instance of a root disk, and the first properties of its image."""
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
        guest,
        domain,
        base,
        _root_of(domain, conf),
        conf.non_inheritable_image_properties,
    )


def _base_image(glance: Glance, domain: Domain) -> dict[str, Any]:
    """The image that Nova made the instance from, if it is still there."""
    if domain.base_image is None:
        return {}
    try:
        return glance.get(domain.base_image).properties
    except exception.ImageNotFound:
        return {}


def _root_of(
    domain: Domain, conf: cfg.ConfigOpts
) -> tuple[Disk, Layer] | None:
    """The root disk and its source; None if the disk will be refused."""
    disk = domain.root_disk
    source = (
        None if disk is None else source_of(read_settings(conf).plan, disk)
    )
    if disk is None or source is None or disk.is_refused:
        return None
    return disk, source


def _first_properties(
    guest: Guest,
    domain: Domain,
    base: dict[str, Any],
    root: tuple[Disk, Layer] | None,
    non_inheritable: list[str],
) -> dict[str, Any]:
    """The properties that nova-api writes on the record of a snapshot's image.

    Source: ``nova.compute.utils.create_image``.
    """
    size = space.disk_size(guest, *root) if root else 0
    smallest_disk = -(-size // GIB)
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
    """The domain and the time, in characters that Glance takes."""
    now = datetime.datetime.now().astimezone()
    time = f'-{now:%Y-%m-%d-%H%M%S}'
    room = naming.LONGEST - len(time)
    return f'{naming.for_glance(guest.name, room)}{time}'


def _in_words(snapshot: Snapshot, result: dict[str, Any]) -> dict[str, str]:
    def with_reason(what: str, reason: str) -> str:
        return f'{what} ({reason})'

    where = (
        {'Image': result['image'], 'Name': result['name']}
        if result['image']
        else {'File': result['file']}
    )
    dropped = ', '.join(snapshot.properties_dropped)
    lacks = {'Glance refused': f'the properties {dropped}'} if dropped else {}
    what = (
        {
            'Paused': with_reason(
                'yes' if snapshot.paused else 'no',
                snapshot.paused_reason or '',
            ),
            'Still for': f'{snapshot.stall_seconds:.3f} s',
            'Volume snapshots': ', '.join(snapshot.volumes.values()),
        }
        if snapshot.volumes
        else {
            'Streamed': with_reason(
                'yes' if snapshot.streamed else 'no', snapshot.streamed_reason
            ),
            **_images_in_words(snapshot),
        }
    )
    disks = ', '.join(disk.source() for disk in snapshot.disks)
    return {
        'Domain': snapshot.domain,
        **({'Disk': disks} if disks else {}),
        **where,
        'Method': with_reason(snapshot.method, snapshot.method_reason),
        'Quiesced': with_reason(
            'yes' if snapshot.quiesced else 'no', snapshot.quiesced_in_words
        ),
        **what,
        **lacks,
        'Seconds': ', '.join(
            f'{step} {seconds:.1f}'
            for step, seconds in snapshot.seconds.items()
        ),
        **({'Note': '\n'.join(snapshot.notes)} if snapshot.notes else {}),
    }


def _images_in_words(snapshot: Snapshot) -> dict[str, str]:
    increments = ', '.join(
        str(disk.increment) for disk in snapshot.disks if disk.increment
    )
    digests = ', '.join(disk.sha512 for disk in snapshot.disks if disk.sha512)
    return {
        **({'Content': increments} if increments else {}),
        'Format': ', '.join(disk.disk_format for disk in snapshot.disks),
        'Size': ', '.join(f'{disk.size} bytes' for disk in snapshot.disks),
        **({'SHA-512': digests} if digests else {}),
    }
