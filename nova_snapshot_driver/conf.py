# SPDX-License-Identifier: Apache-2.0
"""Every option of the driver.

Those of Nova that steer a snapshot are read under Nova's own names, and are
registered here only where Nova itself is not at hand.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from collections.abc import Sequence

from oslo_config import cfg

snapshot_opts = [
    cfg.StrOpt(
        'path',
        default='auto',
        choices=[
            (
                'auto',
                'inside Ceph where the root disk is there; live where the '
                'guest is active, cold where it is not',
            ),
            ('backup', 'live: a backup job shows the root disk as it was'),
            ('mirror', 'live: a block job copies the root disk'),
            ('cold', 'the guest is suspended while its disk is read'),
        ],
        help='The way to the content of the root disk at one instant.',
    ),
    cfg.StrOpt(
        'quiesce',
        default='auto',
        choices=[
            ('auto', 'freeze where it is possible, record where it is not'),
            ('require', 'fail the snapshot where it is not possible'),
            ('never', 'leave the guest alone'),
        ],
        help=(
            'Whether the file systems of a running guest are frozen, by '
            'the QEMU guest agent, for the instant of the snapshot. What '
            'an image or a command asks for goes before this option.'
        ),
    ),
    cfg.StrOpt(
        'pause',
        default='auto',
        choices=[
            ('auto', 'pause where it is not quiesced and has several volumes'),
            ('always', 'pause it, quiesced or not'),
            ('never', 'let it run on'),
        ],
        help=(
            'Whether a running guest whose root disk is a Cinder volume is '
            'paused while Cinder cuts the snapshots of its volumes. A freeze '
            'holds what is written through file systems alone: where a '
            'program writes to a volume itself, only a pause makes the '
            'snapshots one instant.'
        ),
    ),
    cfg.StrOpt(
        'state_directory',
        default='$state_path/snapshot-driver',
        help=(
            'Where the driver keeps what it must not forget while it '
            'changes a domain: the definition of a domain that is '
            'transient during a live snapshot, with its secrets, and the '
            'locks. It must outlive a restart of the host.'
        ),
    ),
    cfg.IntOpt(
        'quiesce_timeout',
        default=10,
        min=1,
        help=(
            'The longest time, in seconds, that the guest agent may take '
            'for one answer: to say that it is there, to freeze and to '
            'thaw. Windows guests thaw by themselves after 10 seconds.'
        ),
    ),
    cfg.IntOpt(
        'guest_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that a guest may take to be '
            'suspended, to release a device of the host, to end a block '
            'job, or to be thawed by an agent that does not answer at '
            'once. A snapshot whose guest is not known to be thawed by '
            'then has failed.'
        ),
    ),
    cfg.IntOpt(
        'stillness_timeout',
        default=30,
        min=1,
        help=(
            'The longest time, in seconds, that a guest may stand still, '
            'frozen or paused, while Cinder cuts the snapshots of its '
            'volumes. A snapshot whose volumes are not cut by then has '
            'failed. Windows guests thaw by themselves after 10 seconds.'
        ),
    ),
    cfg.IntOpt(
        'volume_timeout',
        default=300,
        min=1,
        help=(
            'The longest time, in seconds, that Cinder may take to have the '
            'snapshots of all volumes available once they are cut, or to '
            'delete those of a snapshot that has failed.'
        ),
    ),
    cfg.IntOpt(
        'mirror_timeout',
        default=7200,
        min=1,
        help=(
            'The longest time, in seconds, that a live copy may take, be it '
            'by libvirt or inside Ceph.'
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
            'begin to the proven image; 0 leaves it to the bounds of its '
            'steps.'
        ),
    ),
    cfg.StrOpt(
        'scratch_directory',
        help=(
            'Where QEMU keeps, while a backup job runs, what the guest '
            'overwrites. By default [libvirt] snapshots_directory.'
        ),
    ),
    cfg.IntOpt(
        'scratch_reserve',
        default=1024,
        min=1,
        help=(
            'The MiB that a backup job must leave free where its scratch file '
            'lies. A job that comes nearer is ended, and the snapshot fails: '
            'without room there the writes of the guest itself would fail.'
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
    cfg.StrOpt(
        'compression_type',
        default='zstd',
        choices=['zstd', 'zlib'],
        help=(
            'How an image is compressed where [libvirt] snapshot_compression '
            'asks for it. QEMU reads zstd since 5.1.'
        ),
    ),
    cfg.IntOpt(
        'compression_level',
        default=1,
        min=1,
        max=19,
        help=(
            'From 1, the fastest, to 19; zlib ends at 9. An image that '
            'qemu-img converts has the level of qemu-img.'
        ),
    ),
    cfg.IntOpt(
        'nice',
        default=10,
        min=0,
        max=19,
        help=(
            'How much the data plane yields to others on the processor: to '
            'guests, first of all. It does not while its own guest is '
            'suspended.'
        ),
    ),
    cfg.StrOpt(
        'ionice',
        default='none',
        choices=[
            ('none', 'as nova-compute itself'),
            ('best-effort', 'the lowest priority of the usual class'),
            ('idle', 'only when nobody else wants the disk'),
        ],
        help=(
            'How much the data plane yields to others on the disk. It does '
            'not while its own guest is suspended.'
        ),
    ),
    cfg.StrOpt(
        'metrics_file',
        regex=r'\.prom$',
        help=(
            'Where nova-compute writes what its snapshots come to, for '
            'Prometheus: a file that ends in .prom, in the directory of the '
            'textfile collector of node_exporter. It needs '
            'prometheus_client. By default there are no metrics.'
        ),
    ),
]

#: Nova's own, as far as they steer a snapshot: name, type and default are
#: those of Nova 34. The group None is [DEFAULT].
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
            help='Where instances are stored on disk.',
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
            help='Where the temporary files of a snapshot lie.',
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
            help='Take cold snapshots alone.',
        ),
    ],
}


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options of the driver."""
    conf.register_opts(snapshot_opts, group=_snapshot_group())


def register_nova_opts(conf: cfg.ConfigOpts) -> None:
    """Register those of Nova's options, where Nova has not."""
    for group, opts in nova_opts.items():
        conf.register_opts(opts, group=group)


def load(
    config_files: Sequence[str] | None = None,
    overrides: Iterable[tuple[str, str, object]] = (),
) -> cfg.ConfigOpts:
    """The configuration of a process that has no Nova.

    :param config_files: nova.conf and kin; None looks in the places where
        OpenStack keeps them
    :param overrides: (group, option, value), which go before the files
    :raises cfg.Error: a file is missing, or a value is not valid
    """
    conf = cfg.ConfigOpts()
    register_opts(conf)
    register_nova_opts(conf)
    if config_files is None:
        # Those of nova-compute, of which distributions make two.
        config_files = cfg.find_config_files('nova', 'nova-compute')
    conf(args=[], project='nova', default_config_files=list(config_files))
    for group, option, value in overrides:
        conf.set_override(option, value, group=group)
    _read_everything(conf)
    return conf


def _read_everything(conf: cfg.ConfigOpts) -> None:
    """See that all values are valid, before the first is needed."""
    for group, opts in {'snapshot': snapshot_opts, **nova_opts}.items():
        for opt in opts:
            getattr(conf if group is None else conf[group], opt.dest)


def list_opts() -> list[tuple[cfg.OptGroup | str, list[cfg.Opt]]]:
    """The driver's options, for oslo-config-generator."""
    return [(_snapshot_group(), copy.deepcopy(snapshot_opts))]


def _snapshot_group() -> cfg.OptGroup:
    """Not shared: a group holds the values of the configuration it is in."""
    return cfg.OptGroup('snapshot', title='Snapshots of instances')
