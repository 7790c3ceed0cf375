# SPDX-License-Identifier: Apache-2.0
"""Which way a snapshot takes, and why.

Everything is decided here, once, from what is known beforehand and without
any input or output.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import NoReturn

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import Disk
from nova_snapshot_driver.domain import Domain
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.encoding import STREAMABLE
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy

IMAGE_FORMATS = ('raw', 'qcow2', 'vmdk', 'vdi')

#: The highest level of zlib; the one of zstd is higher.
HIGHEST_ZLIB_LEVEL = 9

AT_REST = (PowerState.SHUT_OFF, PowerState.SUSPENDED)


class Path(enum.Enum):
    """The ways to a view of the disk at one instant."""

    DIRECT = 'direct'
    BACKUP = 'backup'
    MIRROR = 'mirror'
    COLD = 'cold'
    #: There is no view: Cinder has the disks, and keeps their snapshots.
    VOLUMES = 'volumes'


#: Those that can be forced. Whether a disk is a volume is not to be chosen.
OF_A_DISK = (Path.BACKUP, Path.MIRROR, Path.COLD)


class Pause(enum.Enum):
    """Whether the vCPUs of a guest are stopped while its volumes are cut."""

    ALWAYS = 'always'
    UNLESS_QUIESCED = 'unless quiesced'
    NEVER = 'never'


@dataclasses.dataclass(frozen=True)
class Obstacles:
    """What can't be done here, each with the reason, or None.

    :ivar backup: a backup job
    :ivar stream: an image in one pass, without a temporary file
    :ivar direct: an image that is made inside Ceph
    """

    backup: str | None = None
    stream: str | None = None
    direct: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The way of one snapshot.

    :ivar power_state: the state in which the guest is given back
    :ivar source: the topmost image of the root disk
    :ivar encoding: of the image in Glance
    :ivar stream: the image is made in one pass, and never lies on this host
    :ivar freeze: the guest's file systems are to be frozen
    :ivar quiesce_required: the snapshot fails where that can't be done
    """

    path: Path
    path_reason: str
    power_state: PowerState
    disk: Disk
    source: Layer
    encoding: Encoding
    format_reason: str
    stream: bool
    stream_reason: str
    freeze: bool
    quiesce_reason: str
    quiesce_required: bool

    @property
    def suspends(self) -> bool:
        """The guest is stopped while its disk is read."""
        return self.path is Path.COLD and self.power_state not in AT_REST

    def __str__(self) -> str:
        freeze = 'quiesced' if self.freeze else 'not quiesced'
        transfer = 'streamed' if self.stream else 'converted'
        if self.path is Path.DIRECT:
            transfer = 'cloned'
        return (
            f'{self.path.value} ({self.path_reason}), '
            f'{self.encoding} ({self.format_reason}), '
            f'{transfer} ({self.stream_reason}), '
            f'{freeze} ({self.quiesce_reason})'
        )


@dataclasses.dataclass(frozen=True)
class VolumesPlan:
    """The way of the snapshot of a guest whose root disk is a volume.

    The fields are those of ``Plan``.

    :ivar pause: the vCPUs of the guest are to be stopped
    """

    path: Path
    path_reason: str
    power_state: PowerState
    freeze: bool
    quiesce_reason: str
    quiesce_required: bool
    pause: Pause
    pause_reason: str

    def __str__(self) -> str:
        freeze = 'quiesced' if self.freeze else 'not quiesced'
        pause = {
            Pause.ALWAYS: 'paused',
            Pause.UNLESS_QUIESCED: 'paused unless quiesced',
            Pause.NEVER: 'not paused',
        }[self.pause]
        return (
            f'{self.path.value} ({self.path_reason}), '
            f'{freeze} ({self.quiesce_reason}), '
            f'{pause} ({self.pause_reason})'
        )


#: The way of any snapshot.
AnyPlan = Plan | VolumesPlan


def make_plan(
    conf: cfg.ConfigOpts,
    instance: Instance,
    domain: Domain,
    power_state: PowerState,
    obstacles: Obstacles,
) -> Plan:
    """Decide the way of a snapshot.

    A snapshot inside Ceph neither asks libvirt for anything nor concerns the
    guest: no option that keeps libvirt from live snapshots is in its way.

    :param domain: the live description of an active domain, else the
        inactive one
    :raises NotSupported: this guest has no way to a snapshot
    :raises QuiesceFailed: quiescing is required and known to be impossible
    """
    disk, source = _root_disk(conf, domain)
    encoding, format_reason = _encoding(conf, disk)
    path, path_reason = _path(
        conf, domain, disk, encoding, power_state, obstacles
    )
    stream, stream_reason = _stream(
        encoding, path, power_state, obstacles.stream
    )
    if disk.encrypted:
        _require_no_plain_text(domain, disk, path, stream, stream_reason)
    policy = instance.quiesce or QuiescePolicy(conf.snapshot.quiesce)
    freeze, quiesce_reason = _freeze(policy, instance, domain, power_state)
    return Plan(
        path=path,
        path_reason=path_reason,
        power_state=power_state,
        disk=disk,
        source=source,
        encoding=encoding,
        format_reason=format_reason,
        stream=stream,
        stream_reason=stream_reason,
        freeze=freeze,
        quiesce_reason=quiesce_reason,
        quiesce_required=policy is QuiescePolicy.REQUIRE,
    )


def make_volumes_plan(
    conf: cfg.ConfigOpts,
    instance: Instance,
    domain: Domain,
    power_state: PowerState,
    volumes: int,
) -> VolumesPlan:
    """Decide the way of a snapshot of volumes.

    :param volumes: how many there are
    :raises NotSupported: this guest has no way to a snapshot
    :raises QuiesceFailed: quiescing is required and known to be impossible
    """
    _require_qemu(domain)
    policy = instance.quiesce or QuiescePolicy(conf.snapshot.quiesce)
    freeze, quiesce_reason = _freeze(policy, instance, domain, power_state)
    pause, pause_reason = _pause(conf, power_state, volumes)
    return VolumesPlan(
        path=Path.VOLUMES,
        path_reason='the root disk is a volume',
        power_state=power_state,
        freeze=freeze,
        quiesce_reason=quiesce_reason,
        quiesce_required=policy is QuiescePolicy.REQUIRE,
        pause=pause,
        pause_reason=pause_reason,
    )


def _pause(
    conf: cfg.ConfigOpts, power_state: PowerState, volumes: int
) -> tuple[Pause, str]:
    if power_state is not PowerState.RUNNING:
        return Pause.NEVER, f'the guest is {power_state.value}'
    match conf.snapshot.pause:
        case 'always':
            return Pause.ALWAYS, '[snapshot] pause'
        case 'never':
            return Pause.NEVER, '[snapshot] pause'
    if volumes < 2:
        return Pause.NEVER, 'the snapshot of one volume is one instant'
    return Pause.UNLESS_QUIESCED, f'it has {volumes} volumes'


def _refuse(domain: Domain, reason: str) -> NoReturn:
    raise exception.NotSupported(domain=domain.name, reason=reason)


def _require_qemu(domain: Domain) -> None:
    if domain.hypervisor not in ('kvm', 'qemu'):
        _refuse(domain, f'its hypervisor is {domain.hypervisor}, not QEMU.')


def _root_disk(conf: cfg.ConfigOpts, domain: Domain) -> tuple[Disk, Layer]:
    disk = domain.root_disk
    _require_qemu(domain)
    if disk is None:
        _refuse(domain, 'it has no disk.')
    if disk.rbd is not None:
        if disk.encrypted:
            _refuse(
                domain, f'its root disk {disk.target} is encrypted in Ceph.'
            )
        group = conf.libvirt
        name = disk.rbd.filename(group.rbd_user, group.images_rbd_ceph_conf)
        return disk, Layer(name, disk.format)
    if disk.path is None:
        _refuse(
            domain,
            f'its root disk {disk.target} is on {disk.source} storage, and '
            'only files, block devices and images in Ceph are served.',
        )
    return disk, Layer(disk.path, disk.format)


def _require_no_plain_text(
    domain: Domain, disk: Disk, path: Path, stream: bool, stream_reason: str
) -> None:
    """See that what the guest has encrypted is on no disk in plain text."""
    encrypted = f'its root disk {disk.target} is encrypted'
    if disk.secret is None:
        _refuse(
            domain,
            f'{encrypted}, and otherwise than with LUKS and a secret of '
            'libvirt.',
        )
    if path is Path.MIRROR:
        _refuse(domain, f'{encrypted}, and a copy of it would not be.')
    if not stream:
        _refuse(
            domain,
            f'{encrypted}, and its content must not reach a temporary file '
            f'in plain text. It could not be streamed: {stream_reason}.',
        )


def _path(
    conf: cfg.ConfigOpts,
    domain: Domain,
    disk: Disk,
    encoding: Encoding,
    power_state: PowerState,
    obstacles: Obstacles,
) -> tuple[Path, str]:
    if disk.rbd is None or conf.snapshot.path != 'auto':
        return _path_to_the_data(conf, domain, power_state, obstacles.backup)
    obstacle = obstacles.direct
    if encoding.format != 'raw':
        obstacle = f'it would be raw, and {encoding.format} is wanted'
    if obstacle is None:
        return Path.DIRECT, 'the root disk is in Ceph'
    path, reason = _path_to_the_data(
        conf, domain, power_state, obstacles.backup
    )
    return path, f'{reason}; no image inside Ceph: {obstacle}'


def _path_to_the_data(
    conf: cfg.ConfigOpts,
    domain: Domain,
    power_state: PowerState,
    no_backup: str | None,
) -> tuple[Path, str]:
    """The ways of which the data of the disk leaves its storage."""
    forced = conf.snapshot.path
    if power_state in AT_REST:
        if forced in (Path.BACKUP.value, Path.MIRROR.value):
            _refuse(
                domain,
                f'the path {forced} is forced ([snapshot] path), and the '
                f'guest is {power_state.value}.',
            )
        return Path.COLD, f'the guest is {power_state.value}'
    if forced == Path.COLD.value:
        return _suspend(domain, power_state, 'forced by [snapshot] path')
    if forced != 'auto':
        return Path(forced), 'forced by [snapshot] path'
    for option, is_set in (
        (
            '[workarounds] disable_libvirt_livesnapshot',
            conf.workarounds.disable_libvirt_livesnapshot,
        ),
        (
            '[ephemeral_storage_encryption] enabled',
            conf.ephemeral_storage_encryption.enabled,
        ),
    ):
        if is_set:
            return _suspend(domain, power_state, option)
    if no_backup is not None:
        return Path.MIRROR, f'there is no backup job: {no_backup}'
    return Path.BACKUP, f'the guest is {power_state.value}'


def _suspend(
    domain: Domain, power_state: PowerState, reason: str
) -> tuple[Path, str]:
    if domain.host_devices and power_state is PowerState.PAUSED:
        _refuse(
            domain,
            'the guest has devices of the host, which must be detached from '
            'it, and a paused guest releases none. Resume it first.',
        )
    return Path.COLD, reason


def _encoding(conf: cfg.ConfigOpts, disk: Disk) -> tuple[Encoding, str]:
    image_format, reason = _image_format(conf, disk)
    if not conf.libvirt.snapshot_compression or image_format != 'qcow2':
        return Encoding(image_format), reason
    compression, level = (
        conf.snapshot.compression_type,
        conf.snapshot.compression_level,
    )
    if compression == 'zlib':
        level = min(level, HIGHEST_ZLIB_LEVEL)
    return Encoding(image_format, compression, level), reason


def _stream(
    encoding: Encoding,
    path: Path,
    power_state: PowerState,
    no_stream: str | None,
) -> tuple[bool, str]:
    if path is Path.DIRECT:
        return True, 'its data stays in Ceph'
    if encoding.format not in STREAMABLE:
        return False, f'{encoding.format} is not written in one pass'
    if no_stream is not None:
        return False, no_stream
    if path is Path.MIRROR:
        return False, 'the copy of the disk is a file'
    if path is Path.COLD and power_state not in AT_REST:
        return False, 'a suspended guest is not to wait for the upload'
    return True, 'in one pass'


def _image_format(conf: cfg.ConfigOpts, disk: Disk) -> tuple[str, str]:
    wanted = conf.libvirt.snapshot_image_format
    if wanted:
        return wanted, '[libvirt] snapshot_image_format'
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
) -> tuple[bool, str]:
    if policy is QuiescePolicy.NEVER:
        return False, 'not wanted'
    if power_state is PowerState.SHUT_OFF:
        return False, 'the guest is shut off, its disk is at rest'
    obstacle = _obstacle(instance, domain, power_state)
    if obstacle is None:
        return True, 'by the guest agent'
    if policy is QuiescePolicy.REQUIRE:
        raise exception.QuiesceFailed(domain=domain.name, reason=obstacle)
    return False, obstacle


def _obstacle(
    instance: Instance, domain: Domain, power_state: PowerState
) -> str | None:
    if power_state is not PowerState.RUNNING:
        return f'the guest is {power_state.value}, its agent cannot answer'
    if instance.guest_agent is False:
        return 'the image has no property hw_qemu_guest_agent'
    if not domain.agent_channel:
        return 'the domain has no channel for a guest agent'
    if not domain.agent_connected:
        return 'no agent is running in the guest'
    return None
