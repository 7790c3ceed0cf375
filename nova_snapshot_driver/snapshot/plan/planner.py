# SPDX-License-Identifier: Apache-2.0
"""How a snapshot is taken, and why.

Everything is decided once, from what is known beforehand, and without any
input or output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.disk_elements import Ruling
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.snapshot.plan import grounds
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.increment import Keeping
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import AT_REST
from nova_snapshot_driver.snapshot.plan.model import IMAGE_FORMATS
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.model import Obstacles
from nova_snapshot_driver.snapshot.plan.model import Pause
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.snapshot.plan.model import VolumesPlan
from nova_snapshot_driver.snapshot.plan.settings import PlanSettings
from nova_snapshot_driver.transfer.formats.encoding import STREAMABLE
from nova_snapshot_driver.transfer.formats.encoding import Encoding

#: The highest level of zlib; zstd has higher ones.
HIGHEST_ZLIB_LEVEL = 9


def make_plan(
    settings: PlanSettings,
    instance: Instance,
    domain: Domain,
    disks: Sequence[Disk],
    power_state: PowerState,
    obstacles: Obstacles,
    keeping: Keeping | None = None,
) -> Plan:
    """Plan the snapshot of disks of a domain.

    A snapshot inside Ceph neither asks libvirt for anything nor concerns the
    guest: options against live snapshots do not concern it either.

    :param domain: the live description of an active domain, else the
        inactive one
    :param disks: of the domain, which are captured at one instant
    :param keeping: how the image of the only disk may build on the one before;
        None for images that stand alone
    :raises NotSupported: no snapshot can be taken of this guest
    :raises QuiesceFailed: quiescing is required and known to be impossible
    """
    _require_qemu(domain)
    if not disks:
        _refuse(domain, 'it has no disk.')
    planned = tuple(
        _planned(settings, domain, disk, keeping) for disk in disks
    )
    method, method_reason = _method(
        settings, domain, planned, power_state, obstacles
    )
    _require_one_instant(domain, planned, method)
    stream, stream_reason = _stream(
        planned, method, power_state, obstacles.stream
    )
    if keeping is not None:
        stream, stream_reason = _stream_of_increment(method)
    for disk in disks:
        if power_state not in AT_REST:
            _require_known_content(domain, disk, Ruling.REFUSED_LIVE)
        if method is not Method.BACKUP:
            _require_known_content(domain, disk, Ruling.REFUSED_AT_REST)
        if disk.encrypted:
            _require_no_plain_text(domain, disk, method, stream, stream_reason)
    policy = instance.quiesce or settings.quiesce
    freeze, quiesce_reason = _freeze(policy, instance, domain, power_state)
    return Plan(
        method=method,
        method_reason=method_reason,
        power_state=power_state,
        disks=planned,
        stream=stream,
        stream_reason=stream_reason,
        freeze=freeze,
        quiesce_reason=quiesce_reason,
        quiesce_required=policy is QuiescePolicy.REQUIRE,
    )


def make_volumes_plan(
    settings: PlanSettings,
    instance: Instance,
    domain: Domain,
    power_state: PowerState,
    volumes: int,
) -> VolumesPlan:
    """Plan the snapshot of the volumes of a guest.

    :param volumes: how many there are
    :raises NotSupported: no snapshot can be taken of this guest
    :raises QuiesceFailed: quiescing is required and known to be impossible
    """
    _require_qemu(domain)
    policy = instance.quiesce or settings.quiesce
    freeze, quiesce_reason = _freeze(policy, instance, domain, power_state)
    pause, pause_reason = _pause(settings, power_state, volumes)
    return VolumesPlan(
        method=Method.VOLUMES,
        method_reason=Ground(Words.VOLUME),
        power_state=power_state,
        freeze=freeze,
        quiesce_reason=quiesce_reason,
        quiesce_required=policy is QuiescePolicy.REQUIRE,
        pause=pause,
        pause_reason=pause_reason,
    )


def _pause(
    settings: PlanSettings, power_state: PowerState, volumes: int
) -> tuple[Pause, Ground]:
    if power_state is not PowerState.RUNNING:
        return Pause.NEVER, grounds.of_state(power_state)
    match settings.pause:
        case 'always':
            return Pause.ALWAYS, Ground(Words.BY_OPTION)
        case 'never':
            return Pause.NEVER, Ground(Words.BY_OPTION)
    if volumes < 2:
        return Pause.NEVER, Ground(Words.ONE_VOLUME)
    return Pause.UNLESS_QUIESCED, Ground(Words.SEVERAL_VOLUMES, str(volumes))


def _refuse(domain: Domain, reason: str) -> NoReturn:
    raise exception.NotSupported(domain=domain.name, reason=reason)


def _require_qemu(domain: Domain) -> None:
    if domain.hypervisor not in ('kvm', 'qemu'):
        _refuse(domain, f'its hypervisor is {domain.hypervisor}, not QEMU.')


def _planned(
    settings: PlanSettings,
    domain: Domain,
    disk: Disk,
    keeping: Keeping | None,
) -> PlannedDisk:
    _require_known_content(domain, disk, Ruling.REFUSED)
    if disk.rbd is not None and disk.encrypted:
        _refuse(domain, f'its {_named(domain, disk)} is encrypted in Ceph.')
    source = source_of(settings, disk)
    if source is None:
        _refuse(
            domain,
            f'its {_named(domain, disk)} is on {disk.source} storage, and '
            'only files, block devices and images in Ceph are served.',
        )
    if keeping is None:
        return PlannedDisk(disk, source, *_encoding(settings, disk))
    _require_unencrypted(domain, disk)
    return PlannedDisk(
        disk, source, Encoding(keeping.format), keeping.format_reason
    )


def _named(domain: Domain, disk: Disk) -> str:
    kind = 'root disk' if disk == domain.root_disk else 'disk'
    return f'{kind} {disk.target}'


def source_of(settings: PlanSettings, disk: Disk) -> Layer | None:
    """The image that QEMU's tools read; None where they can't."""
    path = disk.path
    if disk.rbd is not None:
        path = disk.rbd.filename(settings.rbd_user, settings.rbd_conf)
    return None if path is None else disk.layer(path)


def _require_known_content(domain: Domain, disk: Disk, when: Ruling) -> None:
    """Check that no setting of the disk that shapes its content is ignored."""
    for refusal in disk.refusals:
        if refusal.ruling is when:
            _refuse(domain, f'its {_named(domain, disk)} has {refusal}.')


def _require_one_instant(
    domain: Domain, disks: Sequence[PlannedDisk], method: Method
) -> None:
    if method is Method.MIRROR and len(disks) > 1:
        _refuse(
            domain,
            'several of its disks are wanted at one instant, and a copy of '
            'each (the method mirror) would end at its own.',
        )


def _require_unencrypted(domain: Domain, disk: Disk) -> None:
    """Check that no increment would hold what the guest has encrypted."""
    if disk.encrypted:
        _refuse(
            domain,
            f'its {_named(domain, disk)} is encrypted, and an increment would '
            'hold its content in plain text for as long as it is kept.',
        )


def _require_no_plain_text(
    domain: Domain,
    disk: Disk,
    method: Method,
    stream: bool,
    stream_reason: str,
) -> None:
    """Check that content which the guest has encrypted stays encrypted."""
    encrypted = f'its {_named(domain, disk)} is encrypted'
    if disk.secret is None:
        _refuse(
            domain,
            f'{encrypted}, and otherwise than with LUKS and a secret of '
            'libvirt.',
        )
    if method is Method.MIRROR:
        _refuse(domain, f'{encrypted}, and a copy of it would not be.')
    if not stream:
        _refuse(
            domain,
            f'{encrypted}, and its content must not reach a temporary file '
            f'in plain text. It could not be streamed: {stream_reason}.',
        )


def _method(
    settings: PlanSettings,
    domain: Domain,
    disks: Sequence[PlannedDisk],
    power_state: PowerState,
    obstacles: Obstacles,
) -> tuple[Method, Ground]:
    if settings.method is not None or any(
        each.disk.rbd is None for each in disks
    ):
        return _data_method(settings, domain, power_state, obstacles.backup)
    obstacle = _obstacle_inside_ceph(disks) or obstacles.direct
    if obstacle is None:
        return Method.DIRECT, Ground(Words.IN_CEPH)
    method, reason = _data_method(
        settings, domain, power_state, obstacles.backup
    )
    left_out = Ground(Words.NOT_INSIDE_CEPH, cause=obstacle)
    return method, dataclasses.replace(reason, beside=left_out)


def _obstacle_inside_ceph(disks: Sequence[PlannedDisk]) -> Ground | None:
    if len(disks) > 1:
        return Ground(Words.SEVERAL_DISKS, str(len(disks)))
    [planned] = disks
    if planned.encoding.format != 'raw':
        return Ground(Words.NOT_RAW, planned.encoding.format)
    return None


def _data_method(
    settings: PlanSettings,
    domain: Domain,
    power_state: PowerState,
    no_backup: Ground | None,
) -> tuple[Method, Ground]:
    """A method by which the data of the disk leaves its storage."""
    forced = settings.method
    if power_state is PowerState.SHUTTING_DOWN:
        _refuse(
            domain,
            'it is shutting down, and its disk is not at rest yet. Wait until '
            f'it has stopped, or stop it with "virsh destroy {domain.name}".',
        )
    if power_state in AT_REST:
        if forced in (Method.BACKUP, Method.MIRROR):
            _refuse(
                domain,
                f'the method {forced.value} is forced ([snapshot] method), '
                f'and the guest is {power_state.value}.',
            )
        return Method.COLD, grounds.of_state(power_state)
    if forced is Method.COLD:
        return _suspend(domain, power_state, Words.FORCED)
    if forced is not None:
        return forced, Ground(Words.FORCED)
    if not settings.allows_live:
        return _suspend(domain, power_state, Words.NO_LIVE_SNAPSHOT)
    if settings.encrypts_local_disks:
        return _suspend(domain, power_state, Words.ENCRYPTED_STORAGE)
    if no_backup is not None:
        return Method.MIRROR, Ground(Words.NO_BACKUP_JOB, cause=no_backup)
    return Method.BACKUP, grounds.of_state(power_state)


def _suspend(
    domain: Domain, power_state: PowerState, words: Words
) -> tuple[Method, Ground]:
    if power_state is PowerState.ASLEEP:
        _refuse(
            domain,
            f'it is to be suspended ({words.value}), and it is asleep: '
            'libvirt would bring it back paused, and could not wake it any '
            f'more. Wake it first, with "virsh dompmwakeup {domain.name}".',
        )
    if power_state is PowerState.CRASHED:
        _refuse(
            domain,
            f'it is to be suspended ({words.value}), and it has crashed: '
            'libvirt would bring it back paused, and nobody could tell any '
            'more that it has. Reset it first, with "virsh reset '
            f'{domain.name}".',
        )
    if domain.host_devices and power_state is PowerState.PAUSED:
        _refuse(
            domain,
            'the guest has devices of the host, which must be detached from '
            'it, and a paused guest releases none. Resume it first.',
        )
    return Method.COLD, Ground(words)


def _encoding(settings: PlanSettings, disk: Disk) -> tuple[Encoding, str]:
    image_format, reason = _image_format(settings, disk)
    if settings.compression is None or image_format != 'qcow2':
        return Encoding(image_format), reason
    level = settings.compression_level
    if settings.compression == 'zlib':
        level = min(level, HIGHEST_ZLIB_LEVEL)
    return Encoding(image_format, settings.compression, level), reason


def _stream(
    disks: Sequence[PlannedDisk],
    method: Method,
    power_state: PowerState,
    no_stream: str | None,
) -> tuple[bool, str]:
    if method is Method.DIRECT:
        return True, 'its data stays in Ceph'
    for each in disks:
        if each.encoding.format not in STREAMABLE:
            return False, f'{each.encoding.format} is not written in one pass'
    if no_stream is not None:
        return False, no_stream
    if method is Method.MIRROR:
        return False, 'the copy of the disk is a file'
    if method is Method.COLD and power_state not in AT_REST:
        return False, 'a suspended guest is not to wait for the upload'
    return True, 'in one pass'


def _stream_of_increment(method: Method) -> tuple[bool, str]:
    if method is Method.MIRROR:
        return False, 'the copy of the disk is a file'
    return True, 'in one pass'


def _image_format(settings: PlanSettings, disk: Disk) -> tuple[str, str]:
    if settings.image_format is not None:
        return settings.image_format, '[libvirt] snapshot_image_format'
    if disk.source == 'block':
        return 'raw', 'the source is a block device'
    if disk.rbd is not None:
        return 'raw', 'the source is in Ceph'
    if disk.format in IMAGE_FORMATS:
        return disk.format, 'as the source'
    return 'qcow2', f'the source is {disk.format}'


def _freeze(
    policy: QuiescePolicy,
    instance: Instance,
    domain: Domain,
    power_state: PowerState,
) -> tuple[bool, Ground]:
    if policy is QuiescePolicy.NEVER:
        return False, Ground(Words.NOT_WANTED)
    if power_state is PowerState.SHUT_OFF:
        return False, Ground(Words.AT_REST)
    obstacle = _obstacle(instance, domain, power_state)
    if obstacle is None:
        return True, Ground(Words.BY_AGENT)
    if policy is QuiescePolicy.REQUIRE:
        raise exception.QuiesceFailed(
            domain=domain.name, reason=str(obstacle), public=obstacle.public
        )
    return False, obstacle


def _obstacle(
    instance: Instance, domain: Domain, power_state: PowerState
) -> Ground | None:
    if power_state is not PowerState.RUNNING:
        return grounds.of_silent_agent(power_state)
    if instance.guest_agent is False:
        return Ground(Words.NO_AGENT_WANTED)
    if not domain.agent_channel:
        return Ground(Words.NO_CHANNEL)
    if not domain.agent_connected:
        return Ground(Words.NO_AGENT)
    return None
