# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any
from typing import ClassVar

import ddt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver import plan
from nova_snapshot_driver.domain import Disk
from nova_snapshot_driver.domain import Domain
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.domain import PowerState
from nova_snapshot_driver.domain import RbdImage
from nova_snapshot_driver.domain import parse
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.instance import QuiescePolicy
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Pause
from tests.unit import documents
from tests.unit import tables

RUNNING = PowerState.RUNNING
PAUSED = PowerState.PAUSED
SHUT_OFF = PowerState.SHUT_OFF
SUSPENDED = PowerState.SUSPENDED

DISK = Disk('vda', 'file', 'qcow2', '/disk')
DOMAIN = Domain(
    name='web-1',
    uuid='8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4',
    hypervisor='kvm',
    disks=(DISK, Disk('vdb', 'network', 'raw', None)),
    agent_channel=True,
    agent_connected=True,
)
IMAGE = RbdImage('vms', 'disk', 'nova')
#: The options of Nova with which no snapshot is a live one.
OPTIONS = (
    ('workarounds', 'disable_libvirt_livesnapshot'),
    ('ephemeral_storage_encryption', 'enabled'),
)
(DEVICE,) = parse(documents.inactive(documents.PCI_DEVICE)).host_devices


def with_root(**fields: Any) -> Domain:
    """A domain whose root disk is like that."""
    disk = dataclasses.replace(DISK, **fields)
    return dataclasses.replace(DOMAIN, disks=(disk,))


@ddt.ddt
class VolumesTest(testtools.TestCase):
    """A root disk that is a volume."""

    def plan(
        self,
        *overrides: tuple[str, str, object],
        state: PowerState = RUNNING,
        domain: Domain = DOMAIN,
        volumes: int = 4,
    ) -> plan.VolumesPlan:
        return plan.make_volumes_plan(
            conf.load([], overrides),
            Instance(domain.name),
            domain,
            state,
            volumes,
        )

    @tables.rows(
        {
            'auto': (RUNNING, 4, 'auto', Pause.UNLESS_QUIESCED),
            'one': (RUNNING, 1, 'auto', Pause.NEVER),
            'always': (RUNNING, 1, 'always', Pause.ALWAYS),
            'never': (RUNNING, 4, 'never', Pause.NEVER),
            'paused': (PAUSED, 4, 'always', Pause.NEVER),
            'shut_off': (SHUT_OFF, 4, 'always', Pause.NEVER),
            'suspended': (SUSPENDED, 4, 'auto', Pause.NEVER),
        }
    )
    def test_pause(
        self, state: PowerState, volumes: int, policy: str, expected: Pause
    ) -> None:
        made = self.plan(
            ('snapshot', 'pause', policy), state=state, volumes=volumes
        )
        self.assertIs(Path.VOLUMES, made.path)
        self.assertIs(expected, made.pause)
        self.assertNotEqual('', made.pause_reason)

    def test_in_words(self) -> None:
        self.assertEqual(
            'volumes (the root disk is a volume), quiesced (by the guest '
            'agent), paused unless quiesced (it has 4 volumes)',
            str(self.plan()),
        )

    def test_path_of_a_disk_is_no_matter(self) -> None:
        for path in plan.OF_A_DISK:
            made = self.plan(('snapshot', 'path', path.value), state=SHUT_OFF)
            self.assertIs(Path.VOLUMES, made.path)

    def test_quiesce_is_required(self) -> None:
        error = self.assertRaises(
            exception.QuiesceFailed,
            self.plan,
            ('snapshot', 'quiesce', 'require'),
            state=PAUSED,
        )
        self.assertIn('paused', str(error))

    def test_another_hypervisor(self) -> None:
        self.assertRaises(
            exception.NotSupported,
            self.plan,
            domain=dataclasses.replace(DOMAIN, hypervisor='lxc'),
        )


class PlanCase(testtools.TestCase):
    def plan(
        self,
        *overrides: tuple[str, str, object],
        instance: Instance | None = None,
        domain: Domain = DOMAIN,
        state: PowerState = RUNNING,
        obstacles: plan.Obstacles | None = None,
    ) -> plan.Plan:
        return plan.make_plan(
            conf.load([], overrides),
            instance or Instance('web-1'),
            domain,
            state,
            obstacles or plan.Obstacles(),
        )


@ddt.ddt
class PathTest(PlanCase):
    # What is forced, the option, the state -> the path, why
    WAYS = (
        ('auto', None, RUNNING, Path.BACKUP, 'the guest is running'),
        ('auto', None, PAUSED, Path.BACKUP, 'the guest is paused'),
        ('auto', None, SHUT_OFF, Path.COLD, 'the guest is shut off'),
        ('auto', None, SUSPENDED, Path.COLD, 'the guest is suspended'),
        ('cold', None, RUNNING, Path.COLD, 'forced'),
        ('cold', None, PAUSED, Path.COLD, 'forced'),
        ('cold', None, SHUT_OFF, Path.COLD, 'the guest is shut off'),
        ('backup', None, RUNNING, Path.BACKUP, 'forced'),
        ('backup', None, PAUSED, Path.BACKUP, 'forced'),
        ('mirror', None, RUNNING, Path.MIRROR, 'forced'),
        ('mirror', None, PAUSED, Path.MIRROR, 'forced'),
        *(
            (forced, (group, name, True), state, path, reason)
            for group, name in OPTIONS
            for forced, state, path, reason in (
                ('auto', RUNNING, Path.COLD, f'[{group}] {name}'),
                ('auto', PAUSED, Path.COLD, f'[{group}] {name}'),
                ('auto', SHUT_OFF, Path.COLD, 'the guest is shut off'),
                ('auto', SUSPENDED, Path.COLD, 'the guest is suspended'),
                ('cold', RUNNING, Path.COLD, 'forced'),
                ('backup', RUNNING, Path.BACKUP, 'forced'),
                ('mirror', RUNNING, Path.MIRROR, 'forced'),
            )
        ),
    )

    @tables.rows(
        {
            f'{forced}_{state.value}_{option[0] if option else ""}': (
                (forced, option, state, path, reason)
            )
            for forced, option, state, path, reason in WAYS
        }
    )
    def test_path(
        self,
        forced: str,
        option: tuple[str, str, bool] | None,
        state: PowerState,
        path: Path,
        reason: str,
    ) -> None:
        made = self.plan(
            ('snapshot', 'path', forced),
            *([option] if option else []),
            state=state,
        )
        self.assertIs(path, made.path)
        self.assertIn(reason, made.path_reason)
        self.assertIs(state, made.power_state)

    @tables.rows(
        {
            f'{path}_{state.value}': (path, state)
            for path in ('backup', 'mirror')
            for state in (SHUT_OFF, SUSPENDED)
        }
    )
    def test_live_path_needs_an_active_guest(
        self, path: str, state: PowerState
    ) -> None:
        error = self.assertRaises(
            exception.NotSupported,
            self.plan,
            ('snapshot', 'path', path),
            state=state,
        )
        self.assertIn(f'the guest is {state.value}', str(error))

    def test_no_backup_job(self) -> None:
        made = self.plan(obstacles=plan.Obstacles(backup='it is too old'))
        self.assertIs(Path.MIRROR, made.path)
        self.assertIn('it is too old', made.path_reason)

    def test_paused_guest_releases_no_device(self) -> None:
        domain = dataclasses.replace(DOMAIN, host_devices=(DEVICE,))
        cold = ('snapshot', 'path', 'cold')
        error = self.assertRaises(
            exception.NotSupported,
            self.plan,
            cold,
            domain=domain,
            state=PAUSED,
        )
        self.assertIn('Resume it first', str(error))
        for group, name in OPTIONS:
            self.assertRaises(
                exception.NotSupported,
                self.plan,
                (group, name, True),
                domain=domain,
                state=PAUSED,
            )
        # Neither a guest that runs nor a live copy is in the way of one.
        self.assertIs(Path.COLD, self.plan(cold, domain=domain).path)
        self.assertIs(Path.BACKUP, self.plan(domain=domain, state=PAUSED).path)


@ddt.ddt
class CephTest(PlanCase):
    """The root disk is in Ceph."""

    DISK = with_root(source='network', format='raw', path=None, rbd=IMAGE)
    REFUSED = plan.Obstacles(direct='it is refused')

    @tables.rows({state.value: (state,) for state in PowerState})
    def test_inside_ceph(self, state: PowerState) -> None:
        made = self.plan(
            domain=self.DISK,
            state=state,
            obstacles=plan.Obstacles(
                backup='it is too old', stream='libnbd is missing'
            ),
        )
        self.assertIs(Path.DIRECT, made.path)
        self.assertEqual('the root disk is in Ceph', made.path_reason)
        self.assertEqual(Encoding('raw'), made.encoding)
        # Nothing comes to this host.
        self.assertTrue(made.stream)

    # What is forced, the option, the state -> the path
    OTHERS = (
        ('auto', None, RUNNING, Path.BACKUP),
        ('auto', None, PAUSED, Path.BACKUP),
        ('auto', None, SHUT_OFF, Path.COLD),
        ('auto', None, SUSPENDED, Path.COLD),
        *(('auto', option, RUNNING, Path.COLD) for option in OPTIONS),
        ('backup', None, RUNNING, Path.BACKUP),
        ('mirror', None, RUNNING, Path.MIRROR),
        ('cold', None, RUNNING, Path.COLD),
    )

    @tables.rows(
        {
            f'{row[0]}_{row[1][0] if row[1] else ""}_{row[2].value}': row
            for row in OTHERS
        }
    )
    def test_other_way(
        self,
        forced: str,
        option: tuple[str, str] | None,
        state: PowerState,
        path: Path,
    ) -> None:
        made = self.plan(
            ('snapshot', 'path', forced),
            *([(*option, True)] if option else []),
            domain=self.DISK,
            state=state,
            obstacles=self.REFUSED,
        )
        self.assertIs(path, made.path)
        self.assertEqual('raw', made.encoding.format)
        self.assertEqual(Layer('rbd:vms/disk:id=nova', 'raw'), made.source)
        self.assertEqual(forced == 'auto', 'it is refused' in made.path_reason)

    @tables.rows({name: (name,) for name in ('qcow2', 'vmdk', 'vdi')})
    def test_other_format(self, image_format: str) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', image_format),
            domain=self.DISK,
        )
        self.assertIs(Path.BACKUP, made.path)
        self.assertIn(f'{image_format} is wanted', made.path_reason)
        self.assertEqual(image_format, made.encoding.format)

    def test_raw_is_wanted(self) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', 'raw'),
            ('libvirt', 'snapshot_compression', True),
            domain=self.DISK,
        )
        self.assertIs(Path.DIRECT, made.path)

    def test_user_and_cluster_of_nova(self) -> None:
        made = self.plan(
            ('libvirt', 'rbd_user', 'compute'),
            ('libvirt', 'images_rbd_ceph_conf', '/etc/ceph/b.conf'),
            domain=self.DISK,
        )
        self.assertEqual(
            'rbd:vms/disk:id=compute:conf=/etc/ceph/b.conf', made.source.path
        )


@ddt.ddt
class RootDiskTest(PlanCase):
    def test_first_disk(self) -> None:
        made = self.plan()
        self.assertEqual(DISK, made.disk)
        self.assertEqual(Layer('/disk', 'qcow2'), made.source)

    @tables.rows(
        {
            'other_hypervisor': (
                dataclasses.replace(DOMAIN, hypervisor='xen'),
                'its hypervisor is xen',
            ),
            'no_disk': (
                dataclasses.replace(DOMAIN, disks=()),
                'it has no disk',
            ),
            'network': (
                with_root(source='network', path=None),
                'on network storage',
            ),
            'volume': (
                with_root(source='volume', path=None),
                'on volume storage',
            ),
            'encrypted': (with_root(encrypted=True), 'is encrypted'),
            'encrypted_in_ceph': (
                with_root(
                    source='network',
                    path=None,
                    rbd=IMAGE,
                    encrypted=True,
                    secret='0a1b',
                ),
                'is encrypted in Ceph',
            ),
        }
    )
    def test_refused(self, domain: Domain, reason: str) -> None:
        error = self.assertRaises(
            exception.NotSupported, self.plan, domain=domain
        )
        self.assertIn('web-1', str(error))
        self.assertIn(reason, str(error))

    def test_emulated_guest(self) -> None:
        domain = dataclasses.replace(DOMAIN, hypervisor='qemu')
        self.assertEqual(DISK, self.plan(domain=domain).disk)


@ddt.ddt
class FormatTest(PlanCase):
    # The option, the kind and the format of the source -> the image
    FORMATS = (
        (None, 'file', 'qcow2', 'qcow2', 'as the source'),
        (None, 'file', 'raw', 'raw', 'as the source'),
        (None, 'file', 'vmdk', 'vmdk', 'as the source'),
        (None, 'file', 'vdi', 'vdi', 'as the source'),
        (None, 'file', 'qed', 'qcow2', 'the source is qed'),
        (None, 'block', 'raw', 'raw', 'a block device'),
        (None, 'block', 'qcow2', 'raw', 'a block device'),
        ('raw', 'file', 'qcow2', 'raw', 'snapshot_image_format'),
        ('qcow2', 'block', 'raw', 'qcow2', 'snapshot_image_format'),
    )

    @tables.rows({f'{row[0]}_{row[1]}_{row[2]}': row for row in FORMATS})
    def test_format(
        self,
        option: str | None,
        source: str,
        source_format: str,
        image_format: str,
        reason: str,
    ) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', option),
            domain=with_root(source=source, format=source_format),
        )
        self.assertEqual(image_format, made.encoding.format)
        self.assertIn(reason, made.format_reason)

    @tables.rows(
        {
            'qcow2': ('qcow2', True, 'zstd', 3, Encoding('qcow2', 'zstd', 3)),
            'zlib': ('qcow2', True, 'zlib', 19, Encoding('qcow2', 'zlib', 9)),
            'raw': ('raw', True, 'zstd', 3, Encoding('raw')),
            'not_wanted': ('qcow2', False, 'zstd', 3, Encoding('qcow2')),
        }
    )
    def test_compression(
        self,
        image_format: str,
        wanted: bool,
        compression: str,
        level: int,
        encoding: Encoding,
    ) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', image_format),
            ('libvirt', 'snapshot_compression', wanted),
            ('snapshot', 'compression_type', compression),
            ('snapshot', 'compression_level', level),
        )
        self.assertEqual(encoding, made.encoding)


@ddt.ddt
class StreamTest(PlanCase):
    # The path, the state, the format of the image -> why it is not streamed
    CONVERTED: ClassVar = {
        'vmdk': ('auto', RUNNING, 'vmdk', 'vmdk is not written in one pass'),
        'mirror': ('mirror', RUNNING, 'qcow2', 'is a file'),
        'suspended_for_it': ('cold', RUNNING, 'qcow2', 'wait for the upload'),
        'paused': ('cold', PAUSED, 'qcow2', 'wait for the upload'),
    }
    ENCRYPTED: ClassVar = with_root(encrypted=True, secret='0a1b')

    @tables.rows(
        {
            f'{state.value}_{image_format}': (state, image_format)
            for state in (RUNNING, PAUSED, SHUT_OFF, SUSPENDED)
            for image_format in ('raw', 'qcow2')
        }
    )
    def test_streamed(self, state: PowerState, image_format: str) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', image_format), state=state
        )
        self.assertTrue(made.stream)

    @tables.rows(CONVERTED)
    def test_converted(
        self, path: str, state: PowerState, image_format: str, reason: str
    ) -> None:
        made = self.plan(
            ('snapshot', 'path', path),
            ('libvirt', 'snapshot_image_format', image_format),
            state=state,
        )
        self.assertFalse(made.stream)
        self.assertIn(reason, made.stream_reason)

    def test_obstacle(self) -> None:
        made = self.plan(obstacles=plan.Obstacles(stream='it is missing'))
        self.assertIs(Path.BACKUP, made.path)
        self.assertFalse(made.stream)
        self.assertEqual('it is missing', made.stream_reason)

    @tables.rows(
        {state.value: (state,) for state in (RUNNING, PAUSED, SHUT_OFF)}
    )
    def test_encrypted_disk_is_streamed(self, state: PowerState) -> None:
        self.assertTrue(self.plan(domain=self.ENCRYPTED, state=state).stream)

    @tables.rows(CONVERTED)
    def test_encrypted_disk_lies_nowhere_in_plain_text(
        self, path: str, state: PowerState, image_format: str, _reason: str
    ) -> None:
        error = self.assertRaises(
            exception.NotSupported,
            self.plan,
            ('snapshot', 'path', path),
            ('libvirt', 'snapshot_image_format', image_format),
            domain=self.ENCRYPTED,
            state=state,
        )
        self.assertIn('is encrypted', str(error))

    def test_encrypted_disk_without_libnbd(self) -> None:
        error = self.assertRaises(
            exception.NotSupported,
            self.plan,
            domain=self.ENCRYPTED,
            obstacles=plan.Obstacles(stream='it is missing'),
        )
        self.assertIn('it is missing', str(error))


@ddt.ddt
class QuiesceTest(PlanCase):
    MUTE = dataclasses.replace(DOMAIN, agent_connected=False)
    BARE = dataclasses.replace(MUTE, agent_channel=False)

    # The domain, its state, the hint of the instance -> what is in the way
    OBSTACLES: ClassVar = {
        'no_channel': (BARE, RUNNING, None, 'no channel'),
        'no_agent': (MUTE, RUNNING, None, 'no agent is running'),
        'hint': (DOMAIN, RUNNING, False, 'hw_qemu_guest_agent'),
        'paused': (DOMAIN, PAUSED, None, 'paused'),
        'suspended': (DOMAIN, SUSPENDED, None, 'suspended'),
    }

    @tables.rows(
        {
            'auto': ('auto', None, False),
            'require': ('require', None, True),
            'instance': ('never', QuiescePolicy.REQUIRE, True),
        }
    )
    def test_frozen(
        self, option: str, wish: QuiescePolicy | None, required: bool
    ) -> None:
        for hint in (None, True):
            made = self.plan(
                ('snapshot', 'quiesce', option),
                instance=Instance('web-1', quiesce=wish, guest_agent=hint),
            )
            self.assertTrue(made.freeze)
            self.assertIs(required, made.quiesce_required)
            self.assertEqual('by the guest agent', made.quiesce_reason)

    @tables.rows(OBSTACLES)
    def test_not_frozen(
        self,
        domain: Domain,
        state: PowerState,
        hint: bool | None,
        reason: str,
    ) -> None:
        made = self.plan(
            instance=Instance('web-1', guest_agent=hint),
            domain=domain,
            state=state,
        )
        self.assertFalse(made.freeze)
        self.assertIn(reason, made.quiesce_reason)

    @tables.rows(OBSTACLES)
    def test_required_and_impossible(
        self,
        domain: Domain,
        state: PowerState,
        hint: bool | None,
        reason: str,
    ) -> None:
        error = self.assertRaises(
            exception.QuiesceFailed,
            self.plan,
            ('snapshot', 'quiesce', 'require'),
            instance=Instance('web-1', guest_agent=hint),
            domain=domain,
            state=state,
        )
        self.assertIn(reason, str(error))

    def test_hint_alone_makes_no_agent(self) -> None:
        made = self.plan(
            instance=Instance('web-1', guest_agent=True), domain=self.MUTE
        )
        self.assertFalse(made.freeze)

    def test_disk_at_rest_is_quiesced_enough(self) -> None:
        made = self.plan(('snapshot', 'quiesce', 'require'), state=SHUT_OFF)
        self.assertFalse(made.freeze)
        self.assertIn('at rest', made.quiesce_reason)

    @tables.rows(
        {
            'option': ('never', None),
            'instance': ('require', QuiescePolicy.NEVER),
        }
    )
    def test_never(self, option: str, wish: QuiescePolicy | None) -> None:
        made = self.plan(
            ('snapshot', 'quiesce', option),
            instance=Instance('web-1', quiesce=wish),
            domain=self.BARE,
        )
        self.assertFalse(made.freeze)
        self.assertFalse(made.quiesce_required)
        self.assertEqual('not wanted', made.quiesce_reason)


class StrTest(PlanCase):
    def test_says_everything_with_its_reason(self) -> None:
        made = self.plan(('libvirt', 'snapshot_compression', True))
        self.assertEqual(
            'backup (the guest is running), qcow2, zstd (as the source), '
            'streamed (in one pass), quiesced (by the guest agent)',
            str(made),
        )
