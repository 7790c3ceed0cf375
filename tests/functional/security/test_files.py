# SPDX-License-Identifier: Apache-2.0
"""A neighbour on the host plants links where the driver writes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.recovery import dead_snapshot
from nova_snapshot_driver.snapshot import metrics
from nova_snapshot_driver.snapshot.destination.output_file import OutputFile
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.status import Status
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import Extract
from tests.unit.entries import taken

UUID = '6394328f-6cc1-4569-a037-1f1d0655a168'

#: Users who are not root, and not each other: whose directory it is, and who
#: else is on the host.
OWNER, NEIGHBOUR = 1, 65534

#: A group that they share.
GROUP = 60001

CONTENT = 'root:x:0:0\n'

ENTRY = taken(Definition('web-1', UUID, '<domain/>', autostart=False))


def become(user: int) -> None:
    os.setgroups([GROUP])
    os.setgid(user)
    os.setuid(user)


def started(user: int, work: Callable[[], object]) -> int:
    """Do something in a process of another user.

    :returns: its id
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        become(user)
        work()
        status = 0
    finally:
        os._exit(status)


def as_user(user: int, work: Callable[[], object]) -> None:
    _, status = os.waitpid(started(user, work), 0)
    if status:
        raise AssertionError('the other user could not do it')


@contextlib.contextmanager
def again_and_again(user: int, work: Callable[[], None]) -> Iterator[None]:
    """Have another user do something meanwhile, as often as it can."""

    def work_on() -> None:
        while True:
            with contextlib.suppress(OSError):
                work()

    child = started(user, work_on)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def plant(directory: Path, victim: Path) -> None:
    """Put a link to a file in the place of every one, and of those to come."""
    kinds = ('json', 'lock', 'status', 'cancel', 'json.draft', 'status.draft')
    names = {f'{UUID}.{kind}' for kind in kinds} | set(os.listdir(directory))
    for name in names:
        path = directory / name
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            path.symlink_to(victim)


class FilesCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest('only root can start a process of another user')
        self.useFixture(fixtures.FakeLogger())
        self.root = Path(self.useFixture(fixtures.TempDir()).path)
        # Other users have to pass the directory.
        self.root.chmod(0o711)
        self.private = self.made('private', 0, 0o711)
        self.victim = self.precious(self.private / 'victim')

    def made(self, name: str, user: int, mode: int, group: int = -1) -> Path:
        path = self.root / name
        path.mkdir()
        os.chown(path, user, group if group >= 0 else user)
        path.chmod(mode)
        return path

    def precious(self, path: Path, user: int = 0) -> Path:
        path.write_text(CONTENT)
        path.chmod(0o600)
        os.chown(path, user, user)
        return path

    def is_untouched(self, path: Path, user: int = 0) -> None:
        found = path.stat()
        self.assertEqual(
            (CONTENT, 0o100600, user, user),
            (path.read_text(), found.st_mode, found.st_uid, found.st_gid),
        )


class StateTest(FilesCase):
    """Root does what ``nova-snapshot`` does, in the directory of nova."""

    def setUp(self) -> None:
        super().setUp()
        self.state = self.made('state', OWNER, 0o700)

    def work(self) -> None:
        """As ``create``, ``status``, ``cancel`` and ``recover`` do."""
        of_host = Journal(str(self.state))
        begin = Status('web-1', UUID, (), ('/image',), 'backup')
        with of_host.exclusive(UUID, 'web-1'), of_host.kept(ENTRY):
            with status.reported(str(self.state), begin, silent):
                CancelRequest(str(self.state), UUID).make()
            CancelRequest(str(self.state), UUID).consume()
            of_host.entries()
        status.running(str(self.state))
        journal.abandoned(str(self.state))

    def test_planted_before(self) -> None:
        as_user(OWNER, lambda: plant(self.state, self.victim))
        self.assertTrue((self.state / f'{UUID}.lock').is_symlink())
        self.work()
        self.is_untouched(self.victim)

    def test_planted_meanwhile(self) -> None:
        """Failures are errors of the driver's own."""
        with again_and_again(OWNER, lambda: plant(self.state, self.victim)):
            for _ in range(200):
                with contextlib.suppress(exception.SnapshotError, OSError):
                    self.work()
        self.is_untouched(self.victim)

    def test_owner_can_use_what_root_has_made(self) -> None:
        of_host = Journal(str(self.state))
        with of_host.exclusive(UUID, 'web-1'):
            of_host.remember(ENTRY)
            CancelRequest(str(self.state), UUID).make()
        self.assertEqual(
            {(0o100600, OWNER, OWNER)},
            {
                (found.st_mode, found.st_uid, found.st_gid)
                for found in (each.stat() for each in self.state.iterdir())
            },
        )

    def recover(self, kind: str, uuid: str = UUID, **fields: str) -> None:
        """Recover what an entry says that its owner has written.

        :param kind: of the taking that the entry names
        :param fields: of that taking
        """
        entry = json.loads(ENTRY.given_back().to_json())
        taking = {'kind': kind, **fields}
        entry['domain']['uuid'] = uuid
        text = json.dumps({**entry, 'takings': [taking]})
        path = self.state / f'{uuid}.json'
        as_user(OWNER, lambda: path.write_text(text))
        configuration = conf.load(
            [],
            [
                ('snapshot', 'state_directory', str(self.state)),
                ('libvirt', 'snapshots_directory', str(self.root / 'none')),
            ],
        )
        of_host = Journal(str(self.state))
        for entry in of_host.entries().found:
            dead_snapshot.forget_lost(
                entry.uuid,
                'web-1',
                of_host,
                conf.read_settings(configuration).undo,
                None,
            )

    def test_entry_names_a_file(self) -> None:
        self.recover('draft', path=str(self.victim))
        self.is_untouched(self.victim)

    def test_entry_names_a_file_as_a_draft(self) -> None:
        draft = self.precious(self.private / 'image.0a1b2c3d.part')
        self.recover('draft', path=str(draft))
        self.is_untouched(draft)

    def test_entry_names_a_draft_of_its_owner(self) -> None:
        place = self.made('place', OWNER, 0o755)
        draft = self.precious(place / 'image.0a1b2c3d.part', OWNER)
        self.recover('draft', path=str(draft))
        self.assertEqual([], os.listdir(place))

    def test_entry_names_a_directory(self) -> None:
        space = self.private / f'{UUID}-precious'
        space.mkdir()
        victim = self.precious(space / 'image')
        link = self.state / 'link'
        as_user(OWNER, lambda: link.symlink_to(self.private))
        for directory in (self.private, link):
            self.recover('temporary-files', directory=str(directory))
            self.is_untouched(victim)

    def test_entry_names_no_domain(self) -> None:
        """The name is a pattern, and fits all that lies in a directory."""
        (self.private / 'a-directory').mkdir()
        victim = self.precious(self.private / 'a-directory' / 'file')
        for uuid in ('*', 'a'):
            self.recover('temporary-files', uuid, directory=str(self.private))
        self.is_untouched(victim)


class MetricsTest(FilesCase):
    """nova-compute writes its metrics, as nova."""

    def write(self, directory: Path) -> None:
        def work() -> None:
            metrics.TextFile(str(directory / 'nova_snapshot.prom'))
            # A thread writes it, and this process has no other use.
            time.sleep(1)

        as_user(OWNER, work)

    def test_directory_of_several(self) -> None:
        """As ``metrics_file`` once was to be shared with others."""
        shared = self.made('shared', 0, 0o2775, GROUP)
        victim = self.precious(self.made('nova', OWNER, 0o711) / 'file', OWNER)
        names = ('nova_snapshot.prom', 'nova_snapshot.prom.draft')

        def work() -> None:
            for name in names:
                (shared / name).symlink_to(victim)

        as_user(NEIGHBOUR, work)
        self.write(shared)
        self.assertEqual(sorted(names), sorted(os.listdir(shared)))
        self.is_untouched(victim, OWNER)

    def test_directory_of_its_own(self) -> None:
        own = self.made('own', OWNER, 0o755)
        self.write(own)
        (path,) = own.iterdir()
        self.assertEqual(0o100644, path.stat().st_mode)
        self.assertIn('nova_snapshot_running', path.read_text())


class OutputTest(FilesCase):
    """Root has an image written into the directory of a neighbour."""

    def setUp(self) -> None:
        super().setUp()
        self.place = self.made('place', NEIGHBOUR, 0o755)
        self.disk = self.root / 'disk'
        self.disk.write_bytes(b'disk' * 4096)

    def write(self, image_format: str, victim: Path) -> None:
        output = OutputFile('web', str(self.place / 'image'))
        draft = Path(output.draft)
        with output.discarded_on_failure():
            output.check()
            # The name stands in the journal by now.
            as_user(NEIGHBOUR, lambda: draft.symlink_to(victim))
            data_plane.run(
                Extract(
                    Layer(str(self.disk), 'raw'),
                    Encoding(image_format),
                    output.draft,
                ),
                Limits(60),
                silent,
                Cancellation(),
            )
            output.receive(output.draft, {}, silent, Cancellation())

    def test_link_in_place_of_the_draft(self) -> None:
        missing = self.private / 'to-be-made'
        for image_format in ('raw', 'qcow2', 'vmdk'):
            for victim in (self.victim, missing):
                error = self.assertRaises(
                    exception.CommandFailed, self.write, image_format, victim
                )
                self.assertIn(str(self.place), str(error))
        self.is_untouched(self.victim)
        self.assertFalse(missing.exists())
        self.assertEqual([], os.listdir(self.place))
