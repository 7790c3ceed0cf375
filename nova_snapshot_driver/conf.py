# SPDX-License-Identifier: Apache-2.0
"""All options of the driver.

Nova's options that affect a snapshot are read under Nova's own names, and are
registered here only where Nova itself is not at hand.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

from oslo_config import cfg

from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.snapshot.capture.settings import CaptureSettings
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.settings import PlanSettings
from nova_snapshot_driver.snapshot.settings import Settings
from nova_snapshot_driver.takings.tools import UndoSettings
from nova_snapshot_driver.transfer.settings import TransferSettings

#: The usual place of the configuration of Nova.
NOVA_CONF = '/etc/nova/nova.conf'

snapshot_opts = [
    cfg.StrOpt(
        'method',
        default='auto',
        deprecated_name='path',
        choices=[
            (
                'auto',
                'inside Ceph if the root disk is there; otherwise live if the '
                'guest is active, else cold',
            ),
            ('backup', 'live: a backup job presents the disk at its start'),
            ('mirror', 'live: a block job copies the root disk'),
            ('cold', 'the guest is suspended while its disk is read'),
        ],
        help='How the root disk is captured at one instant.',
    ),
    cfg.StrOpt(
        'quiesce',
        default='auto',
        choices=[
            ('auto', 'freeze if possible, else go on and record why not'),
            ('require', 'fail the snapshot if freezing is not possible'),
            ('never', 'leave the guest alone'),
        ],
        help=(
            'Whether the file systems of a running guest are frozen, by '
            'the QEMU guest agent, for the instant of the snapshot. The '
            'properties of an image and the arguments of a command take '
            'precedence over this option.'
        ),
    ),
    cfg.StrOpt(
        'pause',
        default='auto',
        choices=[
            ('auto', 'pause a guest with several volumes unless quiesced'),
            ('always', 'pause the guest, quiesced or not'),
            ('never', 'let the guest run on'),
        ],
        help=(
            'Whether a running guest whose root disk is a Cinder volume is '
            'paused while Cinder creates the snapshots of its volumes. A '
            'freeze holds back writes through file systems alone: where a '
            'program writes to a volume directly, only a pause makes all '
            'snapshots show the same instant.'
        ),
    ),
    cfg.StrOpt(
        'target',
        default='image',
        choices=[
            ('image', 'an image in Glance, with the data of the disk'),
            (
                'volume',
                'a snapshot of a volume in Cinder, which gets what has '
                'changed; the image maps it, and has no data',
            ),
            ('auto', 'volume where that can be done, else image'),
        ],
        help=(
            'Where the snapshot of a server goes whose root disk is no '
            'volume. The property snapshot_target of a request, of the '
            'metadata of the server and of its image, and snapshot:target of '
            'its flavor, go before, in this order. The image of a server '
            'that is shelved always has the data.'
        ),
    ),
    cfg.StrOpt(
        'volume_type',
        help=(
            'The type of the volumes in Cinder that get the snapshots of '
            "servers. By default that of Cinder, or of the user's project."
        ),
    ),
    cfg.BoolOpt(
        'snapshots_take_gigabytes',
        default=True,
        help=(
            'Whether a snapshot in Cinder takes as many gigabytes of the '
            'quota as its volume has. Set it to false where Cinder has '
            'no_snapshot_gb_quota: a snapshot that goes to a volume asks for '
            'what it will take before anything is touched.'
        ),
    ),
    cfg.StrOpt(
        'state_directory',
        default='$state_path/snapshot-driver',
        help=(
            'The directory for the journal and the locks. The journal holds '
            'what a crash must not lose, such as the definition, with its '
            'secrets, of a domain that is transient during a live snapshot. '
            'The directory must survive a restart of the host, and nobody '
            'but its owner and root may write to it.'
        ),
    ),
    cfg.IntOpt(
        'quiesce_timeout',
        default=10,
        min=1,
        help=(
            'The longest time, in seconds, that the guest agent may take '
            'for one answer: to a ping, to freeze and to '
            'thaw. Windows guests thaw by themselves after 10 seconds.'
        ),
    ),
    cfg.IntOpt(
        'thaw_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, for which the guest agent is asked '
            'again to thaw the file systems where it does not do so at once. '
            'A snapshot whose guest is not known to be thawed by then has '
            'failed.'
        ),
    ),
    cfg.IntOpt(
        'qemu_timeout',
        deprecated_name='guest_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that QEMU may take to answer a '
            'call of libvirt. A QEMU that is silent for longer is not waited '
            'for; the snapshot is undone when it answers.'
        ),
    ),
    cfg.IntOpt(
        'shutdown_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, for which a snapshot waits for a '
            'guest that is shutting down. Once the guest is shut off, its '
            'disk can be read.'
        ),
    ),
    cfg.IntOpt(
        'suspend_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that the suspension of a guest '
            'for a cold snapshot may take: libvirt writes its memory to the '
            'disk of the host. A guest that takes longer runs on, and the '
            'snapshot fails.'
        ),
    ),
    cfg.IntOpt(
        'device_detach_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that a guest may take to release '
            'a device: a device of the host before a cold snapshot, or the '
            'channel of an agent that libvirt has lost.'
        ),
    ),
    cfg.IntOpt(
        'job_abort_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that a backup job or a block job '
            'may take to end once it is told to. With the mirror method the '
            'guest is frozen while the copy ends.'
        ),
    ),
    cfg.IntOpt(
        'cancel_timeout',
        default=310,
        min=1,
        help=(
            'The longest time, in seconds, for which a command that cancels '
            'a snapshot, a nova-compute that stops, and the deletion of an '
            'instance wait until the snapshot has given the guest back. A '
            'snapshot whose QEMU is silent ends after qemu_timeout.'
        ),
    ),
    cfg.BoolOpt(
        'reattach_agent',
        default=True,
        help=(
            'Detach the channel of the guest agent and attach it again where '
            'libvirt has lost the agent while a backup job ran. The guest '
            'sees the port of the agent vanish and return: an agent that '
            'systemd restarts, or that runs with --retry-path, comes back; '
            'another agent has to be started by hand. If false, the agent '
            'is out of reach until it or libvirtd is restarted.'
        ),
    ),
    cfg.IntOpt(
        'stall_timeout',
        deprecated_name='stillness_timeout',
        default=30,
        min=1,
        help=(
            'The longest time, in seconds, that a guest may stand still, '
            'frozen or paused, while Cinder creates the snapshots of its '
            'volumes. A snapshot fails if Cinder has not created them by '
            'then. Windows guests thaw by themselves after 10 seconds. '
            'Ceph has as long to create the snapshot of the disk of a frozen '
            'guest, but 10 seconds at most.'
        ),
    ),
    cfg.IntOpt(
        'volume_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that Cinder may take to have the '
            'snapshots of all volumes available once they are created, or to '
            'delete those of a snapshot that has failed.'
        ),
    ),
    cfg.IntOpt(
        'mirror_timeout',
        default=7200,
        min=1,
        help=(
            'The longest time, in seconds, that the copy of a disk by the '
            'mirror method may take.'
        ),
    ),
    cfg.IntOpt(
        'flatten_timeout',
        default=7200,
        min=1,
        help=(
            'The longest time, in seconds, that Ceph may take to copy all '
            'data of a disk into the image.'
        ),
    ),
    cfg.IntOpt(
        'disk_slot_timeout',
        default=7200,
        min=1,
        help=(
            'The longest time, in seconds, for which a snapshot in '
            'nova-compute waits for its turn while the host is busy with '
            '[compute] max_concurrent_disk_ops operations on disks. A '
            'snapshot that has no turn by then fails, and the guest is '
            'untouched.'
        ),
    ),
    cfg.IntOpt(
        'extract_timeout',
        default=7200,
        min=1,
        help=(
            'The longest time, in seconds, that the conversion into the '
            'format of the image may take. A guest that is suspended '
            'waits for it.'
        ),
    ),
    cfg.IntOpt(
        'upload_timeout',
        default=86400,
        min=1,
        help=(
            'The longest time, in seconds, that the upload may take, all '
            'attempts together. An image that is streamed is read, encoded '
            'and uploaded in this time.'
        ),
    ),
    cfg.IntOpt(
        'deadline',
        default=0,
        min=0,
        help=(
            'The longest time, in seconds, that a snapshot may take from its '
            'start to the proven image; 0 is no limit beyond those of its '
            'steps.'
        ),
    ),
    cfg.StrOpt(
        'scratch_directory',
        help=(
            'The directory for the scratch file of a backup job, in which '
            'QEMU keeps the data that the guest overwrites meanwhile. By '
            'default [libvirt] snapshots_directory.'
        ),
    ),
    cfg.IntOpt(
        'scratch_reserve',
        default=1024,
        min=1,
        help=(
            'The MiB that a backup job must leave free on the file system of '
            'its scratch file. A job that leaves less is ended, and the '
            'snapshot fails: on a full file system the writes of the guest '
            'itself would fail.'
        ),
    ),
    cfg.IntOpt(
        'bandwidth',
        default=0,
        min=0,
        help=(
            'How many MiB a second one snapshot may read or send; 0 is no '
            'limit.'
        ),
    ),
    cfg.IntOpt(
        'source_timeout',
        default=45,
        min=1,
        help=(
            'The longest time, in seconds, that a disk may not answer while '
            'it is read: after it the snapshot fails. Raise it where storage '
            'takes longer to come back from an outage.'
        ),
    ),
    cfg.IntOpt(
        'least_rate',
        default=16,
        min=0,
        max=1024,
        help=(
            'The KiB a second that a disk has to serve while it is read, and '
            'Glance to accept while an image is sent; 0 accepts any rate. A '
            'slower disk counts as silent after source_timeout, a slower '
            'Glance after [glance] timeout. Time that the bandwidth option '
            'or the other side costs does not count.'
        ),
    ),
    cfg.StrOpt(
        'compression_type',
        default='zstd',
        choices=[
            ('zstd', 'fast; QEMU reads it since 5.1'),
            ('zlib', 'slower; every QEMU reads it'),
        ],
        help=(
            'The compression of images where [libvirt] snapshot_compression '
            'is true.'
        ),
    ),
    cfg.IntOpt(
        'compression_level',
        default=1,
        min=1,
        max=19,
        help=(
            'The level of compression, from 1, the fastest, to 19; zlib ends '
            'at 9. Images that qemu-img converts have the level of qemu-img.'
        ),
    ),
    cfg.IntOpt(
        'nice',
        default=10,
        min=0,
        max=19,
        help=(
            'The niceness of the data plane, which yields the processor to '
            'guests. It is 0 while the guest of the snapshot is suspended.'
        ),
    ),
    cfg.StrOpt(
        'ionice',
        default='none',
        choices=[
            ('none', 'that of nova-compute'),
            ('best-effort', 'the lowest priority of the usual class'),
            ('idle', 'only when nobody else wants the disk'),
        ],
        help=(
            'The I/O class of the data plane, which yields the disk to '
            'guests. It is none while the guest of the snapshot is '
            'suspended.'
        ),
    ),
    cfg.StrOpt(
        'metrics_file',
        regex=r'\.prom$',
        help=(
            'The file to which nova-compute writes the metrics of its '
            'snapshots, for Prometheus. Its name ends in .prom, and its '
            'directory is one that the textfile collector of node_exporter '
            'reads and that nobody but nova and root may write to. Requires '
            'prometheus_client. By default there are no metrics.'
        ),
    ),
]

#: Nova's options that affect a snapshot, with the name, type and default of
#: Nova 34. The group None is [DEFAULT].
nova_opts: dict[str | None, list[cfg.Opt]] = {
    None: [
        cfg.StrOpt(
            'state_path',
            default='/var/lib/nova',
            help="Nova's top-level directory for its state.",
        ),
        cfg.StrOpt(
            'instances_path',
            default='$state_path/instances',
            help='The directory of the instances.',
        ),
        cfg.ListOpt(
            'non_inheritable_image_properties',
            default=['cache_in_nova', 'bittorrent'],
            help=(
                'Properties of an image that the image of a snapshot does not '
                'inherit.'
            ),
        ),
    ],
    'libvirt': [
        cfg.StrOpt(
            'connection_uri',
            default='',
            help='The libvirt to connect to; empty is qemu:///system.',
        ),
        cfg.StrOpt(
            'snapshots_directory',
            default='$instances_path/snapshots',
            help='The directory for temporary files of snapshots.',
        ),
        cfg.StrOpt(
            'snapshot_image_format',
            choices=['raw', 'qcow2', 'vmdk', 'vdi'],
            help=(
                'The format of the image. By default that of the source, and '
                'raw for a block device.'
            ),
        ),
        cfg.BoolOpt(
            'snapshot_compression',
            default=False,
            help='Compress images of the format qcow2.',
        ),
        cfg.StrOpt(
            'rbd_user',
            help='The user of Ceph; by default that of the domain.',
        ),
        cfg.StrOpt(
            'images_rbd_ceph_conf',
            default='',
            help='The configuration of Ceph; empty is the usual one.',
        ),
    ],
    'glance': [
        cfg.IntOpt(
            'num_retries',
            default=3,
            min=0,
            help='How often an upload that failed is tried again.',
        ),
        cfg.FloatOpt(
            'timeout',
            default=600,
            min=1,
            help=(
                'The seconds of silence after which a request to Glance has '
                'failed.'
            ),
        ),
    ],
    'ephemeral_storage_encryption': [
        cfg.BoolOpt(
            'enabled',
            default=False,
            help='The disks of instances are encrypted on LVM.',
        ),
    ],
    'workarounds': [
        cfg.BoolOpt(
            'disable_libvirt_livesnapshot',
            default=False,
            help='Take cold snapshots only.',
        ),
    ],
}


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of the driver."""
    conf.register_opts(snapshot_opts, group=_snapshot_group())


def register_nova_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of Nova, in a process without Nova."""
    for group, opts in nova_opts.items():
        conf.register_opts(opts, group=group)


def load(
    config_files: Sequence[str] | None = None,
    overrides: Iterable[tuple[str, str, object]] = (),
) -> cfg.ConfigOpts:
    """The configuration of a process that has no Nova.

    :param config_files: nova.conf and kin; None looks in the places where
        OpenStack keeps them, and for those of the command line alone.
        Directories are looked for in either case, as by Nova.
    :param overrides: (group, option, value), which go before the files
    :raises cfg.Error: a file is missing, or a value is not valid
    """
    conf = cfg.ConfigOpts()
    register_opts(conf)
    register_nova_opts(conf)
    if config_files is None:
        config_files = _default_files()
    conf(
        args=[],
        project='nova',
        default_config_files=list(config_files),
        default_config_dirs=_of_compute_and_command(cfg.find_config_dirs),
    )
    for group, option, value in overrides:
        conf.set_override(option, value, group=group)
    _read_everything(conf)
    return conf


def sources(conf: cfg.ConfigOpts) -> list[str]:
    """The files and directories that a configuration was read from."""
    return [*conf.config_file, *conf.config_dir]


def _default_files() -> list[str]:
    """
    :raises ConfigFilesPermissionDeniedError: nobody may look whether there is
        a configuration, for which the defaults would stand in without a word
    """
    try:
        os.stat(NOVA_CONF)
    except PermissionError as error:
        raise cfg.ConfigFilesPermissionDeniedError([NOVA_CONF]) from error
    except OSError:
        # oslo.config looks in other places too.
        pass
    # Distributions split the configuration of nova-compute into two files.
    return _of_compute_and_command(cfg.find_config_files)


def _of_compute_and_command(
    find: Callable[[str, str], list[str]],
) -> list[str]:
    """The places that nova-compute reads, and those of the command alone."""
    found = (find('nova', name) for name in ('nova-compute', 'nova-snapshot'))
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


def _read_everything(conf: cfg.ConfigOpts) -> None:
    """Check that all values are valid, before the first is needed."""
    for group, opts in {'snapshot': snapshot_opts, **nova_opts}.items():
        for opt in opts:
            getattr(conf if group is None else conf[group], opt.dest)


def read_settings(conf: cfg.ConfigOpts) -> Settings:
    """Read the options once, for all that is below the doors.

    :param conf: with the options of this module and Nova's
    """
    capture, transfer = _capture_settings(conf), _transfer_settings(conf)
    ceph = CephSettings(
        conf.libvirt.rbd_user, conf.libvirt.images_rbd_ceph_conf
    )
    return Settings(
        deadline=conf.snapshot.deadline,
        plan=plan_settings(conf),
        capture=capture,
        transfer=transfer,
        destination=DestinationSettings(
            transfer=transfer,
            retries=conf.glance.num_retries,
            volume_timeout=conf.snapshot.volume_timeout,
            stall_timeout=conf.snapshot.stall_timeout,
            state_directory=conf.snapshot.state_directory,
            volume_type=conf.snapshot.volume_type,
            snapshots_take_gigabytes=conf.snapshot.snapshots_take_gigabytes,
            ceph=ceph,
        ),
        undo=UndoSettings(
            state_directory=conf.snapshot.state_directory,
            directories=capture.directories,
            qemu_timeout=conf.snapshot.qemu_timeout,
            quiesce_timeout=conf.snapshot.quiesce_timeout,
            thaw_timeout=conf.snapshot.thaw_timeout,
            suspend_timeout=conf.snapshot.suspend_timeout,
            device_detach_timeout=conf.snapshot.device_detach_timeout,
            job_abort_timeout=conf.snapshot.job_abort_timeout,
            stall_timeout=conf.snapshot.stall_timeout,
            volume_timeout=conf.snapshot.volume_timeout,
            reattach_agent=conf.snapshot.reattach_agent,
            ceph=ceph,
        ),
    )


def _capture_settings(conf: cfg.ConfigOpts) -> CaptureSettings:
    return CaptureSettings(
        snapshots_directory=conf.libvirt.snapshots_directory,
        scratch_directory=conf.snapshot.scratch_directory,
        scratch_reserve=conf.snapshot.scratch_reserve << 20,
        shutdown_timeout=conf.snapshot.shutdown_timeout,
        job_abort_timeout=conf.snapshot.job_abort_timeout,
        quiesce_timeout=conf.snapshot.quiesce_timeout,
        mirror_timeout=conf.snapshot.mirror_timeout,
        bandwidth=conf.snapshot.bandwidth,
    )


def _transfer_settings(conf: cfg.ConfigOpts) -> TransferSettings:
    return TransferSettings(
        bandwidth=conf.snapshot.bandwidth << 20,
        nice=conf.snapshot.nice,
        ionice=conf.snapshot.ionice,
        source_timeout=conf.snapshot.source_timeout,
        least_rate=conf.snapshot.least_rate << 10,
        upload_timeout=conf.snapshot.upload_timeout,
        extract_timeout=conf.snapshot.extract_timeout,
        flatten_timeout=conf.snapshot.flatten_timeout,
    )


def plan_settings(conf: cfg.ConfigOpts) -> PlanSettings:
    """The settings for the plans of snapshots, from the options.

    :param conf: with the options of this module and Nova's
    """
    method = conf.snapshot.method
    compressed = conf.libvirt.snapshot_compression
    return PlanSettings(
        method=None if method == 'auto' else Method(method),
        quiesce=QuiescePolicy(conf.snapshot.quiesce),
        pause=conf.snapshot.pause,
        image_format=conf.libvirt.snapshot_image_format or None,
        compression=conf.snapshot.compression_type if compressed else None,
        compression_level=conf.snapshot.compression_level,
        allows_live=not conf.workarounds.disable_libvirt_livesnapshot,
        encrypts_local_disks=conf.ephemeral_storage_encryption.enabled,
        rbd_user=conf.libvirt.rbd_user,
        rbd_conf=conf.libvirt.images_rbd_ceph_conf,
    )


def list_opts() -> list[tuple[cfg.OptGroup | str, list[cfg.Opt]]]:
    """The driver's options, for oslo-config-generator."""
    return [(_snapshot_group(), copy.deepcopy(snapshot_opts))]


def _snapshot_group() -> cfg.OptGroup:
    """A new group for each configuration, as a group holds its values."""
    return cfg.OptGroup('snapshot', title='Snapshots of instances')
