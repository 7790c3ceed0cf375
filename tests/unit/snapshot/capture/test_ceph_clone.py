# SPDX-License-Identifier: Apache-2.0
"""Snapshots inside Ceph, and what becomes of those that can't be."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import libvirt

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.state_directory import Listing
from nova_snapshot_driver.takings.ceph_clone import CephClone
from tests.unit import documents
from tests.unit import fake_ceph
from tests.unit import tables
from tests.unit.fake_ceph import CLUSTER
from tests.unit.fake_data_plane import CONTENT
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import broken
from tests.unit.fake_glance import unavailable
from tests.unit.host import FakeHost
from tests.unit.test_every_fault import Case
from tests.unit.test_every_fault import FailingSync
from tests.unit.test_every_fault import Failure
from tests.unit.ways import DIRECT
from tests.unit.ways import Way

RUNNING = DIRECT['direct']

STATES = {
    'running': (libvirt.VIR_DOMAIN_RUNNING,),
    'paused': (libvirt.VIR_DOMAIN_PAUSED,),
    'shut_off': (libvirt.VIR_DOMAIN_SHUTOFF,),
}


class DirectCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.use(RUNNING)

    def use(self, way: Way) -> None:
        self.host = self.on(way)
        self.before = self.host.before()

    def take(self) -> Snapshot:
        """Take a snapshot that succeeds, by whatever method."""
        taken: list[Snapshot] = []
        error = self.judge(
            self.host, self.before, lambda: taken.append(self.host.snapshot())
        )
        self.assertIsNone(error)
        return taken[0]

    def fails_with(self, kind: type[exception.SnapshotError]) -> Any:
        """Take a snapshot that fails and leaves nothing."""
        error = self.judge(self.host, self.before, self.host.snapshot)
        self.assertIsInstance(error, kind)
        return error

    def streamed(self, reason: str) -> None:
        """Ceph could not, and a backup job did."""
        snapshot = self.take()
        self.assertEqual('backup', snapshot.method)
        self.assertIn(reason, snapshot.method_reason)
        self.assertIsInstance(self.host.data_plane.view, Export)
        self.assertEqual(CONTENT, self.host.glance.content[self.host.image])
        image = self.host.glance.images[self.host.image]
        self.assertEqual('backup', image['snapshot_method'])
        # The words of Ceph and Glance are no business of a user.
        self.assertEqual(
            'the guest is running; no image inside Ceph: it is refused',
            image['snapshot_method_reason'],
        )
        self.assertEqual('raw', image['disk_format'])
        self.assertEqual(
            [
                {'task_state': 'image_pending_upload'},
                {
                    'task_state': 'image_uploading',
                    'expected_state': 'image_pending_upload',
                },
            ],
            self.host.task_states,
        )

    def clone(self) -> fake_ceph.Image:
        return self.host.ceph.images['images', self.host.image]


@ddt.ddt
class ImageTest(DirectCase):
    @tables.rows(STATES)
    def test_image(self, state: int) -> None:
        self.use(Way(devices=RUNNING.devices, state=state))
        snapshot = self.take()
        self.assertEqual('direct', snapshot.method)
        self.assertEqual(2 << 30, snapshot.size)
        self.assertEqual('raw', snapshot.disks[0].disk_format)
        self.assertIsNone(snapshot.disks[0].sha512)
        # As Glance itself has its images.
        self.assertEqual(
            fake_ceph.Image(2 << 30, None, {'snap': True}), self.clone()
        )
        self.assertEqual(
            f'rbd://{CLUSTER}/images/{self.host.image}/snap',
            self.host.glance.located[self.host.image],
        )
        self.assertEqual({}, self.host.disk.snapshots)
        self.assertIsNone(self.host.data_plane.view)

    def test_suspended(self) -> None:
        self.host.connection.lookupByName(documents.NAME).managedSave(0)
        self.before = self.host.before()
        self.assertEqual('direct', self.take().method)

    def test_properties(self) -> None:
        self.take()
        image = self.host.glance.images[self.host.image]
        expected = {
            'disk_format': 'raw',
            'container_format': 'bare',
            'image_location': 'snapshot',
            'snapshot_method': 'direct',
            'snapshot_quiesced': 'true',
        }
        self.assertEqual(
            expected, {name: image.get(name) for name in expected}
        )

    def test_guest_stands_still_for_the_snapshot_alone(self) -> None:
        seen: list[tuple[str, bool]] = []
        self.host.ceph.at_command = lambda name: seen.append(
            (name, self.host.machine.frozen)
        )
        self.take()
        self.assertEqual(
            [('rbd snap create', True)], [each for each in seen if each[1]]
        )

    def test_it_is_the_user_and_the_cluster_of_nova(self) -> None:
        self.host.set('libvirt', 'rbd_user', 'compute')
        self.host.set('libvirt', 'images_rbd_ceph_conf', '/etc/ceph/b.conf')
        self.take()
        for call in self.host.ceph.calls:
            self.assertEqual(
                ('--id', 'compute', '--conf', '/etc/ceph/b.conf'), call[1:5]
            )

    def test_it_is_the_user_of_the_domain(self) -> None:
        self.take()
        for call in self.host.ceph.calls:
            self.assertEqual(('--id', 'nova'), call[1:3])
            self.assertNotIn('--conf', call)

    @tables.rows(
        {
            'workaround': ('workarounds', 'disable_libvirt_livesnapshot'),
            'encryption': ('ephemeral_storage_encryption', 'enabled'),
        }
    )
    def test_no_option_of_libvirt_concerns_it(
        self, group: str, option: str
    ) -> None:
        self.host.set(group, option, True)
        self.assertEqual('direct', self.take().method)

    def test_nothing_is_left_in_the_journal(self) -> None:
        self.take()
        journal = Journal(self.host.directories.state)
        self.assertEqual(Listing((), ()), journal.entries())

    def test_journal_comes_first(self) -> None:
        journal = Journal(self.host.directories.state)
        unknown = []

        def look(name: str) -> None:
            entry = journal.recall(documents.UUID)
            if name in ('rbd info', 'ceph fsid'):
                return
            if entry is None or not entry.of_kind(CephClone):
                unknown.append(name)

        self.host.ceph.at_command = look
        self.take()
        self.assertEqual([], unknown)

    def test_old_way_to_tell_a_location(self) -> None:
        """Without a role of a service, where Glance shows all locations."""
        self.host.glance.takes_locations = False
        self.host.glance.shows_locations = True
        self.assertEqual('direct', self.take().method)

    def test_glance_takes_its_time(self) -> None:
        self.host.glance.looks = 3
        self.assertEqual('direct', self.take().method)


class PoolTest(DirectCase):
    """In which pool Glance has its images.

    Where the disk is no clone, Glance knows where its base image is.
    """

    def locate(self, **fields: Any) -> None:
        self.host.disk.parent = None
        base = self.host.glance.add(status='active', **fields)
        images = self.host.glance.images
        images[documents.BASE_IMAGE] = images.pop(base)

    def test_parent(self) -> None:
        self.host.disk.parent = ('other', 'base', 'snap')
        self.take()
        self.assertIn('/other/', self.host.glance.located[self.host.image])

    def test_location(self) -> None:
        self.locate(
            locations=[
                {'url': 'file:///var/lib/glance/x', 'metadata': {}},
                {'url': 'rbd://another-cluster/other/x/snap', 'metadata': {}},
                {'url': f'rbd://{CLUSTER}/glance/x/snap', 'metadata': {}},
            ]
        )
        self.take()
        self.assertEqual(
            f'rbd://{CLUSTER}/glance/{self.host.image}/snap',
            self.host.glance.located[self.host.image],
        )

    def test_direct_url(self) -> None:
        self.locate(direct_url=f'rbd://{CLUSTER}/glance/x/snap')
        self.take()
        self.assertIn('/glance/', self.host.glance.located[self.host.image])

    def test_glance_shows_none(self) -> None:
        self.locate()
        self.streamed('nobody knows the pool of Glance')

    def test_other_cluster(self) -> None:
        self.locate(direct_url='rbd://another-cluster/images/x/snap')
        self.streamed('nobody knows the pool of Glance')

    def test_base_image_is_deleted(self) -> None:
        self.host.disk.parent = None
        self.streamed('nobody knows the pool of Glance')


@ddt.ddt
class OtherWayTest(DirectCase):
    """Disks that can't be cloned are streamed, and the guest runs on."""

    def test_glance_takes_no_location(self) -> None:
        self.host.glance.takes_locations = False
        self.streamed('takes no location')

    def test_nobody_may_write_in_the_pool(self) -> None:
        self.host.ceph.read_only.add('images')
        self.streamed('Operation not permitted')

    def test_nobody_may_look_into_the_pool(self) -> None:
        self.host.ceph.closed.add('images')
        self.streamed('Operation not permitted')

    def test_nobody_may_make_a_snapshot(self) -> None:
        self.host.ceph.read_only.add('vms')
        self.streamed('Operation not permitted')

    def test_no_command(self) -> None:
        self.host.ceph.is_installed = False
        self.streamed('ceph is not installed')

    def test_guest_stands_still_for_too_long(self) -> None:
        self.host.ceph.troubles[4] = fake_ceph.be_silent
        self.streamed('snap create')
        self.assertEqual('rbd snap create', self.host.ceph.commands[3])

    def test_other_format_is_wanted(self) -> None:
        """Upstream writes the wanted one on an image that is raw."""
        self.host.set('libvirt', 'snapshot_image_format', 'qcow2')
        snapshot = self.take()
        self.assertEqual('backup', snapshot.method)
        self.assertEqual('qcow2', snapshot.disks[0].disk_format)
        self.assertIn('format is wanted: qcow2', snapshot.method_reason)
        self.assertEqual([], self.host.ceph.commands)

    def test_no_clone_and_no_backup_job(self) -> None:
        self.host.glance.takes_locations = False
        self.host.machine.refusals['backupBegin'] = 1
        snapshot = self.take()
        self.assertEqual('mirror', snapshot.method)

    @tables.rows(
        {
            'shut_off': (libvirt.VIR_DOMAIN_SHUTOFF, 'cold'),
            'paused': (libvirt.VIR_DOMAIN_PAUSED, 'backup'),
        }
    )
    def test_other_state(self, state: int, path: str) -> None:
        self.use(Way(devices=RUNNING.devices, state=state))
        self.host.glance.takes_locations = False
        self.assertEqual(path, self.take().method)

    def test_disk_at_rest_is_read_as_nova_reads_it(self) -> None:
        self.use(DIRECT['direct_shut_off'])
        self.host.set('libvirt', 'images_rbd_ceph_conf', '/etc/ceph/a:b.conf')
        self.host.glance.takes_locations = False
        self.take()
        view: Any = self.host.data_plane.view
        self.assertEqual('raw', view.format)
        self.assertEqual(
            f'rbd:vms/{documents.RBD_IMAGE}:id=nova:conf=/etc/ceph/a\\:b.conf',
            view.path,
        )

    @tables.rows({path: (path,) for path in ('backup', 'mirror', 'cold')})
    def test_path_is_forced(self, path: str) -> None:
        self.host.set('snapshot', 'method', path)
        snapshot = self.take()
        self.assertEqual(path, snapshot.method)
        self.assertEqual([], self.host.ceph.commands)

    def test_to_a_file(self) -> None:
        snapshot = self.host.driver().snapshot_to_file(
            Instance(documents.NAME), str(self.host.root / 'image')
        )
        self.assertEqual('backup', snapshot.method)
        self.assertIn('it goes to a file', snapshot.method_reason)

    def test_something_of_that_name_is_not_ours(self) -> None:
        self.host.ceph.add('images', self.host.image, size=17)
        self.assertEqual('backup', self.take().method)
        self.assertEqual(fake_ceph.Image(17), self.clone())

    def test_quiescing_that_is_required_is_not_given_up(self) -> None:
        self.host.set('snapshot', 'quiesce', 'require')
        self.host.machine.freeze_fails = True
        self.fails_with(exception.QuiesceFailed)


@ddt.ddt
class NoOtherWayTest(DirectCase):
    """Failures that another method would not mend, or that are not certain."""

    def test_ceph_is_full(self) -> None:
        self.host.data_plane.at_extract = lambda: self.fails(errno.ENOSPC)
        self.fails_with(exception.CephFull)

    def fails(self, status: int) -> None:
        raise rbd.failure('flatten', status, 'rbd: flatten error')

    def test_ceph_is_silent(self) -> None:
        """Nobody stands still for it, and it has had its time."""
        self.use(DIRECT['direct_shut_off'])
        self.host.ceph.troubles[3] = fake_ceph.be_silent
        self.fails_with(exception.CephTimeout)

    def test_snapshot_that_comes_late_is_removed(self) -> None:
        """The guest's QEMU makes it, and goes on when nobody waits."""
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.rbd.LATE_SNAPSHOT', 5
            )
        )
        ceph, name = self.host.ceph, f'nova-snapshot-{self.host.image}'
        looks: list[str] = []

        def look(command: str) -> None:
            if command == 'rbd snap ls':
                looks.append(command)
                if len(looks) == 3:
                    self.host.disk.snapshots[name] = False

        ceph.at_command = look
        ceph.troubles[4] = fake_ceph.be_silent
        self.streamed('snap create')
        self.assertGreaterEqual(len(looks), 3)

    def test_flatten_takes_too_long(self) -> None:
        def be_late() -> None:
            raise exception.TransferTimeout(
                job='flatten', seconds=1, option='flatten_timeout'
            )

        self.host.data_plane.at_extract = be_late
        self.fails_with(exception.TransferTimeout)

    def test_glance_finds_another_size(self) -> None:
        self.host.glance.sizes = lambda _url: 17
        error = self.fails_with(exception.ImageVerificationFailed)
        self.assertIn('size is 17', str(error))

    def test_glance_never_finds_it(self) -> None:
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.snapshot.destination.glance_image.LOCATION_TIMEOUT',
                0,
            )
        )
        self.host.glance.sizes = lambda _url: None
        error = self.fails_with(exception.ImageVerificationFailed)
        self.assertIn('status is queued', str(error))

    def test_cancelled_in_the_flatten(self) -> None:
        cancellation = Cancellation()
        self.host.data_plane.at_extract = lambda: cancellation.request('-')
        error = self.judge(
            self.host,
            self.before,
            lambda: self.host.snapshot(cancellation=cancellation),
        )
        self.assertIsInstance(error, exception.Cancelled)

    def test_clone_that_somebody_has_open_is_waited_for(self) -> None:
        """As whoever has flattened it, until Ceph takes him for dead."""

        def fail() -> None:
            self.host.data_plane.at_extract = lambda: None
            self.clone().openings = 5
            self.fails(errno.EIO)

        self.host.data_plane.at_extract = fail
        self.streamed('flatten error')

    def test_unforeseen(self) -> None:
        def fail() -> None:
            raise Failure

        self.host.data_plane.at_extract = fail
        self.assertRaises(Failure, self.host.snapshot)
        self.assertEqual([], self.host.differences(self.before))
        self.assertNotIn(self.host.image, self.host.glance.images)

    @tables.rows({f'{call}': (call,) for call in (1, 2)})
    def test_nova_does_not_want_it(self, call: int) -> None:
        def update(**states: Any) -> None:
            self.host.update_task_state(**states)
            if len(self.host.task_states) == call:
                raise Failure

        self.assertRaises(
            Failure, self.host.snapshot, update_task_state=update
        )
        self.assertEqual([], self.host.differences(self.before))
        self.assertNotIn(self.host.image, self.host.glance.images)


KINDS: dict[str, tuple[str, Callable[[], None]]] = {
    'refused': ('troubles', lambda: fake_ceph.fail(errno.EIO)),
    'lost': ('late_troubles', lambda: fake_ceph.fail(errno.EIO)),
    'silent': ('troubles', fake_ceph.be_silent),
    'late': ('late_troubles', fake_ceph.be_silent),
}


def _every_command(
    prepare: Callable[[FakeHost], object] = lambda _host: None,
) -> dict[str, tuple[str, int]]:
    """
    :returns: also the number of the command
    """
    with RUNNING.host() as host:
        RUNNING.prepare(host)
        prepare(host)
        host.snapshot()
        return {
            f'{command.replace(" ", "_")}_{number}_{kind}': (kind, number)
            for number, command in enumerate(host.ceph.commands, 1)
            for kind in KINDS
        }


WELL = _every_command()


def _refuse_location(host: FakeHost) -> None:
    host.glance.takes_locations = False


@ddt.ddt
class CommandTest(DirectCase):
    """A command fails, with and without its effect, or never ends."""

    def strike(self, kind: str, number: int) -> None:
        where, trouble = KINDS[kind]
        getattr(self.host.ceph, where)[number] = trouble
        self.judge(self.host, self.before, self.host.snapshot)
        self.assertGreaterEqual(len(self.host.ceph.commands), number)

    @tables.rows(WELL)
    def test_fault(self, kind: str, number: int) -> None:
        self.strike(kind, number)

    @tables.rows(
        {
            name: row
            for name, row in _every_command(_refuse_location).items()
            # Until Glance is asked, the way is the same.
            if name not in WELL
        }
    )
    def test_fault_where_glance_refuses(self, kind: str, number: int) -> None:
        _refuse_location(self.host)
        self.strike(kind, number)


def _every_request() -> dict[str, tuple[int]]:
    with RUNNING.host() as host:
        RUNNING.prepare(host)
        host.snapshot()
        return {
            f'{request.method}_{number}': (number,)
            for number, request in enumerate(host.glance.requests, 1)
        }


@ddt.ddt
class GlanceTest(DirectCase):
    """Glance fails at one request, before and after it has done it."""

    @tables.rows(_every_request())
    def test_unavailable(self, number: int) -> None:
        self.host.glance.troubles[number] = unavailable
        self.judge(self.host, self.before, self.host.snapshot)

    @tables.rows(_every_request())
    def test_connection_breaks(self, number: int) -> None:
        self.host.glance.late_troubles[number] = broken
        self.judge(self.host, self.before, self.host.snapshot)

    def test_image_is_deleted_meanwhile(self) -> None:
        self.host.data_plane.at_extract = lambda: self.host.glance.images.pop(
            self.host.image
        )
        error = self.judge(self.host, self.before, self.host.snapshot)
        self.assertIsInstance(error, exception.ImageNotFound)

    def test_glance_goes_away_for_good(self) -> None:
        """Nobody knows whether it has made the image active: the data stays
        until somebody does.
        """
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.DELETE_TIMEOUT', 0
            )
        )
        answer = self.host.glance._answer

        def lose(request: Any) -> Answer:
            result = answer(request)
            if request.method == 'POST':
                self.host.glance.troubles = dict.fromkeys(range(1, 99), broken)
                broken()
            return result

        self.useFixture(
            fixtures.MockPatchObject(self.host.glance, '_answer', lose)
        )
        self.assertRaises(exception.ImageLeftBehind, self.host.snapshot)
        image = self.host.glance.images[self.host.image]
        self.assertEqual('active', image['status'])
        self.assertEqual({'snap': True}, self.clone().snapshots)
        self.host.glance.troubles = {}
        self.host.healer().heal(self.host.context)
        # The image was active all the time, and is complete.
        self.assertEqual({'snap': True}, self.clone().snapshots)
        self.assertEqual([], self.host.differences(self.before))


def _every_sync() -> dict[str, tuple[int]]:
    with RUNNING.host() as host, FailingSync() as sync:
        RUNNING.prepare(host)
        host.snapshot()
        return {f'{number}': (number,) for number in range(1, sync.calls + 1)}


@ddt.ddt
class JournalTest(DirectCase):
    @tables.rows(_every_sync())
    def test_not_synced(self, number: int) -> None:
        self.useFixture(FailingSync(number))
        self.fails_with(exception.DirectoryUnusable)


class RecoveryTest(DirectCase):
    """Remains that could not be removed at once."""

    def leave_behind(self) -> None:
        """Ceph goes away in the middle."""

        def go() -> None:
            self.host.ceph.is_installed = False
            raise rbd.failure('flatten', errno.EIO, 'rbd: flatten error')

        self.host.data_plane.at_extract = go
        error = self.assertRaises(exception.UndoFailed, self.host.snapshot)
        self.assertIn('rbd', error.fields['remedy'])
        self.assertNotEqual([], self.host.ceph.leftovers())
        self.host.data_plane.at_extract = lambda: None

    def test_pool_of_nobody(self) -> None:
        """A user without access to the pool has made nothing in it."""
        self.leave_behind()
        self.host.ceph.is_installed = True
        del self.host.ceph.images['images', self.host.image]
        self.host.ceph.closed.add('images')
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))

    def test_pool_in_which_nobody_may_write_any_more(self) -> None:
        """The clone is there, and a person has to know it."""
        self.leave_behind()
        self.host.ceph.is_installed = True
        self.host.ceph.read_only.add('images')
        self.host.healer().heal(self.host.context)
        self.assertIn('rbd rm images/', self.host.log.output)
        self.host.ceph.read_only.clear()
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))

    def test_next_snapshot_removes_it(self) -> None:
        self.leave_behind()
        self.host.ceph.is_installed = True
        self.host.image = self.host.glance.add()
        self.assertEqual('direct', self.take().method)

    def test_no_snapshot_as_long_as_it_is_there(self) -> None:
        """The next snapshot would forget the remains of the first."""
        self.leave_behind()
        self.host.image = self.host.glance.add()
        self.assertRaises(exception.SnapshotError, self.host.snapshot)
        self.host.ceph.is_installed = True
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))

    def test_domain_is_gone(self) -> None:
        """Nova can't delete its disk as long as it has a snapshot."""
        self.leave_behind()
        self.host.machine.vanish()
        self.host.ceph.is_installed = True
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.ceph.leftovers())
        self.assertNotIn(('images', self.host.image), self.host.ceph.images)

    def test_disk_is_gone(self) -> None:
        self.leave_behind()
        self.host.machine.vanish()
        del self.host.ceph.images['vms', documents.RBD_IMAGE]
        self.clone().parent = None
        self.host.ceph.is_installed = True
        self.host.healer().heal(self.host.context)
        self.assertEqual({}, self.host.ceph.images)
