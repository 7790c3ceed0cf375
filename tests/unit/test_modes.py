# SPDX-License-Identifier: Apache-2.0
"""The mode of each path that the driver makes, whatever the umask is."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import time
from collections.abc import Callable
from collections.abc import Iterator

import ddt
import fixtures
import testtools

from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.snapshot import metrics
from nova_snapshot_driver.snapshot.destination.output_file import OutputFile
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state import workspace
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.status import Status
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs import extract
from nova_snapshot_driver.transfer.jobs import save
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Save
from tests.unit import documents
from tests.unit import tables
from tests.unit.entries import taken
from tests.unit.transfer import disks
from tests.unit.transfer.fake_parent import FakeParent

UUID = '8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4'

UMASKS = (0o000, 0o022, 0o027, 0o077, 0o777)

Paths = Iterator[dict[pathlib.Path, int]]


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    previous = os.umask(mask)
    try:
        yield
    finally:
        os.umask(previous)


def snapshots_directory(root: pathlib.Path) -> Paths:
    """QEMU passes, and does not list."""
    path = root / 'above' / 'snapshots'
    with Workspace.open(str(path), UUID) as space:
        yield {
            path.parent: 0o711,
            path: 0o711,
            pathlib.Path(space.path): 0o711,
        }


def socket_directory(root: pathlib.Path) -> Paths:
    """QEMU alone gets the directory."""
    path = root / 'snapshots'
    with workspace.socket_directory(str(path), UUID) as directory:
        yield {path: 0o711, pathlib.Path(directory): 0o700}


def state_directory(root: pathlib.Path) -> Paths:
    """The directory holds secrets."""
    path = root / 'above' / 'state'
    journal = Journal(str(path))
    entry = taken(Definition('web-1', UUID, '<domain/>', False))
    with journal.exclusive(UUID, 'web-1'), journal.kept(entry):
        CancelRequest(str(path), UUID).make()
        with status.reported(
            str(path), Status('web-1', UUID, (), ('image',), 'cold'), silent
        ):
            yield {
                path.parent: 0o711,
                path: 0o700,
                path / f'{UUID}.json': 0o600,
                path / f'{UUID}.lock': 0o600,
                path / f'{UUID}.status': 0o600,
                path / f'{UUID}.cancel': 0o600,
            }


def metrics_file(root: pathlib.Path) -> Paths:
    """node_exporter reads it."""
    path = root / 'nova.prom'
    metrics.TextFile(str(path))
    # A thread writes it.
    while not path.exists():
        time.sleep(0.01)
    yield {path: 0o644}


def saved_image(root: pathlib.Path) -> Paths:
    disk, path = root / 'disk', root / 'image'
    disk.write_bytes(b'disk' * 4096)
    output = OutputFile(documents.NAME, str(path))
    save.run(
        Save(
            Layer(str(disk), 'raw'),
            Encoding('qcow2'),
            output.draft,
            str(root),
        ),
        disks.BOUNDS,
        FakeParent(),
    )
    modes = {pathlib.Path(output.draft): 0o600}
    yield modes
    output.receive(output.draft, {}, silent, Cancellation())
    yield {path: 0o600}


def converted_image(root: pathlib.Path) -> Paths:
    disk, path = root / 'disk', root / 'image'
    disk.write_bytes(b'disk' * 4096)
    # The data plane is a process of its own, and sets its own.
    with umask(0o022):
        extract.run(
            Extract(Layer(str(disk), 'raw'), Encoding('vmdk'), str(path)),
            disks.BOUNDS,
            FakeParent(),
        )
    yield {path: 0o600}


@ddt.ddt
class ModesTest(testtools.TestCase):
    """A row for each path that the driver creates."""

    ROWS: tuple[Callable[[pathlib.Path], Paths], ...] = (
        snapshots_directory,
        socket_directory,
        state_directory,
        metrics_file,
        saved_image,
        converted_image,
    )

    @tables.rows({f'{mask:03o}': (mask,) for mask in UMASKS})
    def test_modes(self, mask: int) -> None:
        for make in self.ROWS:
            root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
            with umask(mask):
                for expected in make(root):
                    self.assertEqual(
                        expected,
                        {
                            path: stat.S_IMODE(path.stat().st_mode)
                            for path in expected
                        },
                        make.__name__,
                    )

    @tables.rows({f'{mode:o}': (mode,) for mode in (0o700, 0o750, 0o755)})
    def test_what_was_there_is_left_alone(self, mode: int) -> None:
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        path = root / 'a'
        path.mkdir()
        path.chmod(mode)
        Journal(str(path))
        with Workspace.open(str(path), UUID):
            self.assertEqual(mode, stat.S_IMODE(path.stat().st_mode))
