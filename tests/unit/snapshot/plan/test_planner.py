# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any
from typing import ClassVar

import ddt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.hypervisor.disk_elements import Refusal
from nova_snapshot_driver.hypervisor.disk_elements import Ruling
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.hypervisor.domain import HostDevice
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.domain import parse
from nova_snapshot_driver.snapshot.disk import disks_of
from nova_snapshot_driver.snapshot.plan import model
from nova_snapshot_driver.snapshot.plan import planner
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.model import Pause
from nova_snapshot_driver.transfer.formats.encoding import Encoding
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
    agent_connected=True,
    agent_device=HostDevice('channel0', '<channel/>', '<channel></channel>'),
)
IMAGE = RbdImage('vms', 'disk', 'nova')

REFUSAL = Ground(Words.REFUSED, 'it is too old')
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
    ) -> model.VolumesPlan:
        return planner.make_volumes_plan(
            conf.plan_settings(conf.load([], overrides)),
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
        self.assertIs(Method.VOLUMES, made.method)
        self.assertIs(expected, made.pause)
        self.assertNotEqual('', str(made.pause_reason))

    def test_in_words(self) -> None:
        self.assertEqual(
            'volumes (the root disk is a volume), quiesced (by the guest '
            'agent), paused unless quiesced (it has several volumes: 4)',
            str(self.plan()),
        )

    def test_path_of_a_disk_is_no_matter(self) -> None:
        for path in model.OF_A_DISK:
            made = self.plan(
                ('snapshot', 'method', path.value), state=SHUT_OFF
            )
            self.assertIs(Method.VOLUMES, made.method)

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


REFUSALS = {
    ruling: Refusal('disk/it', 'that is why', ruling)
    for ruling in (
        Ruling.REFUSED,
        Ruling.REFUSED_LIVE,
        Ruling.REFUSED_AT_REST,
    )
}


class PlanCase(testtools.TestCase):
    def plan(
        self,
        *overrides: tuple[str, str, object],
        instance: Instance | None = None,
        domain: Domain = DOMAIN,
        state: PowerState = RUNNING,
        obstacles: model.Obstacles | None = None,
        targets: tuple[str, ...] = (),
    ) -> model.Plan:
        return planner.make_plan(
            conf.plan_settings(conf.load([], overrides)),
            instance or Instance('web-1'),
            domain,
            disks_of(domain, targets),
            state,
            obstacles or model.Obstacles(),
        )


@ddt.ddt
class PathTest(PlanCase):
    # The forced method, the option, the state -> the method, the reason
    WAYS = (
        ('auto', None, RUNNING, Method.BACKUP, 'the guest is running'),
        ('auto', None, PAUSED, Method.BACKUP, 'the guest is paused'),
        ('auto', None, SHUT_OFF, Method.COLD, 'the guest is shut off'),
        ('auto', None, SUSPENDED, Method.COLD, 'the guest is suspended'),
        ('cold', None, RUNNING, Method.COLD, 'forced'),
        ('cold', None, PAUSED, Method.COLD, 'forced'),
        ('cold', None, SHUT_OFF, Method.COLD, 'the guest is shut off'),
        ('backup', None, RUNNING, Method.BACKUP, 'forced'),
        ('backup', None, PAUSED, Method.BACKUP, 'forced'),
        ('mirror', None, RUNNING, Method.MIRROR, 'forced'),
        ('mirror', None, PAUSED, Method.MIRROR, 'forced'),
        *(
            (forced, (group, name, True), state, path, reason)
            for group, name in OPTIONS
            for forced, state, path, reason in (
                ('auto', RUNNING, Method.COLD, f'[{group}] {name}'),
                ('auto', PAUSED, Method.COLD, f'[{group}] {name}'),
                ('auto', SHUT_OFF, Method.COLD, 'the guest is shut off'),
                ('auto', SUSPENDED, Method.COLD, 'the guest is suspended'),
                ('cold', RUNNING, Method.COLD, 'forced'),
                ('backup', RUNNING, Method.BACKUP, 'forced'),
                ('mirror', RUNNING, Method.MIRROR, 'forced'),
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
        path: Method,
        reason: str,
    ) -> None:
        made = self.plan(
            ('snapshot', 'method', forced),
            *([option] if option else []),
            state=state,
        )
        self.assertIs(path, made.method)
        self.assertIn(reason, str(made.method_reason))
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
            ('snapshot', 'method', path),
            state=state,
        )
        self.assertIn(f'the guest is {state.value}', str(error))

    def test_no_backup_job(self) -> None:
        made = self.plan(obstacles=model.Obstacles(backup=REFUSAL))
        self.assertIs(Method.MIRROR, made.method)
        self.assertEqual(
            'there is no backup job: it is refused: it is too old',
            str(made.method_reason),
        )
        self.assertEqual(
            'there is no backup job: it is refused', made.method_reason.public
        )

    def test_paused_guest_releases_no_device(self) -> None:
        domain = dataclasses.replace(DOMAIN, host_devices=(DEVICE,))
        cold = ('snapshot', 'method', 'cold')
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
        self.assertIs(Method.COLD, self.plan(cold, domain=domain).method)
        self.assertIs(
            Method.BACKUP, self.plan(domain=domain, state=PAUSED).method
        )


@ddt.ddt
class CephTest(PlanCase):
    """The root disk is in Ceph."""

    DISK = with_root(source='network', format='raw', path=None, rbd=IMAGE)
    REFUSED = model.Obstacles(direct=REFUSAL)

    @tables.rows({state.value: (state,) for state in PowerState})
    def test_inside_ceph(self, state: PowerState) -> None:
        made = self.plan(
            domain=self.DISK,
            state=state,
            obstacles=model.Obstacles(
                backup=REFUSAL, stream='libnbd is missing'
            ),
        )
        self.assertIs(Method.DIRECT, made.method)
        self.assertEqual('the root disk is in Ceph', str(made.method_reason))
        self.assertEqual(Encoding('raw'), made.disks[0].encoding)
        # Nothing comes to this host.
        self.assertTrue(made.stream)

    # The forced method, the option, the state -> the method
    OTHERS = (
        ('auto', None, RUNNING, Method.BACKUP),
        ('auto', None, PAUSED, Method.BACKUP),
        ('auto', None, SHUT_OFF, Method.COLD),
        ('auto', None, SUSPENDED, Method.COLD),
        *(('auto', option, RUNNING, Method.COLD) for option in OPTIONS),
        ('backup', None, RUNNING, Method.BACKUP),
        ('mirror', None, RUNNING, Method.MIRROR),
        ('cold', None, RUNNING, Method.COLD),
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
        path: Method,
    ) -> None:
        made = self.plan(
            ('snapshot', 'method', forced),
            *([(*option, True)] if option else []),
            domain=self.DISK,
            state=state,
            obstacles=self.REFUSED,
        )
        self.assertIs(path, made.method)
        self.assertEqual('raw', made.disks[0].encoding.format)
        self.assertEqual(
            Layer('rbd:vms/disk:id=nova', 'raw'), made.disks[0].source
        )
        self.assertEqual(
            forced == 'auto', 'it is refused' in str(made.method_reason)
        )

    @tables.rows({name: (name,) for name in ('qcow2', 'vmdk', 'vdi')})
    def test_other_format(self, image_format: str) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', image_format),
            domain=self.DISK,
        )
        self.assertIs(Method.BACKUP, made.method)
        self.assertIn(f'is wanted: {image_format}', str(made.method_reason))
        self.assertEqual(image_format, made.disks[0].encoding.format)

    def test_raw_is_wanted(self) -> None:
        made = self.plan(
            ('libvirt', 'snapshot_image_format', 'raw'),
            ('libvirt', 'snapshot_compression', True),
            domain=self.DISK,
        )
        self.assertIs(Method.DIRECT, made.method)

    def test_user_and_cluster_of_nova(self) -> None:
        made = self.plan(
            ('libvirt', 'rbd_user', 'compute'),
            ('libvirt', 'images_rbd_ceph_conf', '/etc/ceph/b.conf'),
            domain=self.DISK,
        )
        self.assertEqual(
            'rbd:vms/disk:id=compute:conf=/etc/ceph/b.conf',
            made.disks[0].source.path,
        )


@ddt.ddt
class SeveralDisksTest(PlanCase):
    """All of them at one instant."""

    TARGETS = ('vda', 'vdb')
    SECOND = Disk('vdb', 'block', 'raw', '/dev/second')
    DOMAIN = dataclasses.replace(DOMAIN, disks=(DISK, SECOND))

    def with_second(self, **fields: Any) -> Domain:
        second = dataclasses.replace(self.SECOND, **fields)
        return dataclasses.replace(DOMAIN, disks=(DISK, second))

    def test_image_of_each(self) -> None:
        made = self.plan(domain=self.DOMAIN, targets=self.TARGETS)
        self.assertIs(Method.BACKUP, made.method)
        self.assertTrue(made.stream)
        self.assertEqual(
            [('vda', 'qcow2', '/disk'), ('vdb', 'raw', '/dev/second')],
            [
                (each.target, each.encoding.format, each.source.path)
                for each in made.disks
            ],
        )
        self.assertIn(
            'vda: qcow2 (as the source), '
            'vdb: raw (the source is a block device), streamed',
            str(made),
        )

    def test_one_that_is_not_the_root_disk(self) -> None:
        made = self.plan(domain=self.DOMAIN, targets=('vdb',))
        self.assertEqual(['vdb'], [each.target for each in made.disks])

    def refusal(self, *overrides: tuple[str, str, object], **how: Any) -> str:
        error = self.assertRaises(
            exception.NotSupported,
            self.plan,
            *overrides,
            **{'domain': self.DOMAIN, 'targets': self.TARGETS, **how},
        )
        return str(error)

    def test_missing(self) -> None:
        words = self.refusal(targets=('vda', 'vdz'))
        self.assertIn('it has no disk vdz.', words)

    def test_storage_of_the_second(self) -> None:
        domain = self.with_second(source='network', path=None)
        words = self.refusal(domain=domain)
        self.assertIn('its disk vdb is on network storage', words)

    def test_plain_text_of_the_second(self) -> None:
        words = self.refusal(
            ('libvirt', 'snapshot_image_format', 'vmdk'),
            domain=self.with_second(encrypted=True, secret='a-secret'),
        )
        self.assertIn('its disk vdb is encrypted', words)

    @tables.rows({'forced': (True,), 'left': (False,)})
    def test_copies_end_at_different_instants(self, forced: bool) -> None:
        words = self.refusal(
            *([('snapshot', 'method', 'mirror')] if forced else []),
            obstacles=model.Obstacles(backup=REFUSAL),
        )
        self.assertIn('at one instant', words)

    def test_clones_are_of_different_instants(self) -> None:
        disk, second = (
            dataclasses.replace(
                each, source='network', format='raw', path=None, rbd=IMAGE
            )
            for each in (DISK, self.SECOND)
        )
        made = self.plan(
            domain=dataclasses.replace(DOMAIN, disks=(disk, second)),
            targets=self.TARGETS,
        )
        self.assertIs(Method.BACKUP, made.method)
        self.assertIn('several disks are captured', str(made.method_reason))


@ddt.ddt
class RootDiskTest(PlanCase):
    def test_first_disk(self) -> None:
        made = self.plan()
        self.assertEqual(DISK, made.disks[0].disk)
        self.assertEqual(Layer('/disk', 'qcow2'), made.disks[0].source)

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

    @tables.rows(
        {
            'refused': (Ruling.REFUSED, 'auto', RUNNING),
            'refused_at_rest': (Ruling.REFUSED, 'auto', SHUT_OFF),
            'live': (Ruling.REFUSED_LIVE, 'auto', RUNNING),
            'live_and_paused': (Ruling.REFUSED_LIVE, 'mirror', PAUSED),
            'live_and_suspended': (Ruling.REFUSED_LIVE, 'cold', RUNNING),
            'at_rest': (Ruling.REFUSED_AT_REST, 'auto', SHUT_OFF),
            'at_rest_and_saved': (Ruling.REFUSED_AT_REST, 'auto', SUSPENDED),
            'at_rest_and_copied': (Ruling.REFUSED_AT_REST, 'mirror', RUNNING),
            'at_rest_and_stopped': (Ruling.REFUSED_AT_REST, 'cold', RUNNING),
        }
    )
    def test_something_of_the_disk_is_refused(
        self, ruling: Ruling, path: str, state: PowerState
    ) -> None:
        error = self.assertRaises(
            exception.NotSupported,
            self.plan,
            ('snapshot', 'method', path),
            domain=with_root(refusals=(REFUSALS[ruling],)),
            state=state,
        )
        self.assertIn('vda has disk/it: that is why', str(error))

    @tables.rows(
        {
            'live': (Ruling.REFUSED_LIVE, SHUT_OFF),
            'live_and_saved': (Ruling.REFUSED_LIVE, SUSPENDED),
            'at_rest': (Ruling.REFUSED_AT_REST, RUNNING),
            'at_rest_and_paused': (Ruling.REFUSED_AT_REST, PAUSED),
        }
    )
    def test_something_of_the_disk_is_no_matter(
        self, ruling: Ruling, state: PowerState
    ) -> None:
        domain = with_root(refusals=(REFUSALS[ruling],))
        self.plan(domain=domain, state=state)

    def test_chain_of_the_domain(self) -> None:
        lowest = Layer('/lowest', 'raw', is_last=True)
        made = self.plan(domain=with_root(backing=lowest))
        self.assertEqual(
            Layer('/disk', 'qcow2', backing=lowest), made.disks[0].source
        )
        made = self.plan(domain=with_root(is_last=True))
        self.assertEqual(
            Layer('/disk', 'qcow2', is_last=True), made.disks[0].source
        )

    def test_emulated_guest(self) -> None:
        domain = dataclasses.replace(DOMAIN, hypervisor='qemu')
        self.assertEqual(DISK, self.plan(domain=domain).disks[0].disk)


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
        self.assertEqual(image_format, made.disks[0].encoding.format)
        self.assertIn(reason, made.disks[0].format_reason)

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
        self.assertEqual(encoding, made.disks[0].encoding)


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
            ('snapshot', 'method', path),
            ('libvirt', 'snapshot_image_format', image_format),
            state=state,
        )
        self.assertFalse(made.stream)
        self.assertIn(reason, made.stream_reason)

    def test_obstacle(self) -> None:
        made = self.plan(obstacles=model.Obstacles(stream='it is missing'))
        self.assertIs(Method.BACKUP, made.method)
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
            ('snapshot', 'method', path),
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
            obstacles=model.Obstacles(stream='it is missing'),
        )
        self.assertIn('it is missing', str(error))


@ddt.ddt
class QuiesceTest(PlanCase):
    MUTE = dataclasses.replace(DOMAIN, agent_connected=False)
    BARE = dataclasses.replace(MUTE, agent_device=None)

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
            self.assertEqual('by the guest agent', str(made.quiesce_reason))

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
        self.assertIn(reason, str(made.quiesce_reason))

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
        self.assertIn('at rest', str(made.quiesce_reason))

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
        self.assertEqual('not wanted', str(made.quiesce_reason))


class StrTest(PlanCase):
    def test_says_everything_with_its_reason(self) -> None:
        made = self.plan(('libvirt', 'snapshot_compression', True))
        self.assertEqual(
            'backup (the guest is running), qcow2, zstd (as the source), '
            'streamed (in one pass), quiesced (by the guest agent)',
            str(made),
        )
