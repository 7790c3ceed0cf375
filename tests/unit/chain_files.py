# SPDX-License-Identifier: Apache-2.0
"""Chains of files with the snapshots of a small disk."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
from typing import Any
from typing import TypeVar

import fixtures

from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.transfer import __main__ as process
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.leaves import CHUNK
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Job
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from nova_snapshot_driver.transfer.settings import TransferSettings
from tests.unit import chains
from tests.unit.transfer import disks
from tests.unit.transfer.fake_parent import FakeParent

T = TypeVar('T')

SIZE = 3 * CHUNK

#: The chunk that is damaged, which has never changed.
DAMAGED = 2 * CHUNK

SETTINGS = TransferSettings(
    bandwidth=0,
    nice=0,
    ionice='none',
    source_timeout=disks.PATIENCE,
    least_rate=0,
    upload_timeout=disks.PATIENCE,
    extract_timeout=disks.PATIENCE,
    flatten_timeout=disks.PATIENCE,
)

WORKER = ChainWorker(SETTINGS, silent, Cancellation())


class ChainFiles(fixtures.Fixture):
    """A chain whose snapshots have real images.

    The jobs on it are done in the process of the test.

    :ivar contents: the disk at the instant of each snapshot, by its name
    """

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, bytes] = {}

    def _setUp(self) -> None:
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.path = self.root / 'chain'
        self.path.mkdir(0o700)
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.chain = stack.enter_context(Chain.open(str(self.path)))
        self.useFixture(fixtures.MockPatchObject(data_plane, 'run', do))

    def add(self, name: str, full: bool = False) -> ChainRecord:
        """Add a snapshot, in which one cluster has changed."""
        before = self.chain.newest()
        parent = None if full else before
        number = self.chain.next_number()
        content = bytearray(
            self.contents[before.name] if before else disks.noise(SIZE)
        )
        place = number % 7 * CLUSTER
        content[place : place + CLUSTER] = disks.noise(CLUSTER, number)
        disk = self.root / 'disk'
        disk.write_bytes(content)
        base = (
            Base(
                parent.size,
                self.chain.leaves_path(parent.name),
                parent.tree,
            )
            if parent
            else None
        )
        written = do(
            Increment(
                Layer(str(disk), 'raw'),
                base,
                parent.image if parent else None,
                self.chain.image_draft(name),
                self.chain.leaves_draft(name),
                str(self.root),
            )
        )
        record = chains.record(
            name,
            number,
            size=SIZE,
            parent=parent.name if parent else None,
            changed=written.changed,
            written=written.size,
            tree=written.tree,
        )
        self.chain.publish(record)
        self.contents[name] = bytes(content)
        return record

    def names(self) -> list[str]:
        return [record.name for record in self.chain.records()]

    def damage(self, name: str) -> None:
        """Change a byte of the disk in an image, and in those over it."""
        disks.run(
            *('qemu-io', '-f', 'qcow2', '-c', f'write -P 255 {DAMAGED} 1'),
            str(self.path / f'{name}.qcow2'),
        )

    def assert_readable(self, name: str) -> None:
        """Whether plain ``qemu-img`` reads what was captured."""
        expected = self.root / 'expected'
        expected.write_bytes(self.contents[name])
        disks.assert_same(
            Layer(str(expected), 'raw'),
            Layer(str(self.path / f'{name}.qcow2'), 'qcow2'),
        )


def do(
    job: Job[T],
    _limits: Limits | None = None,
    progress: Progress = silent,
    _cancellation: Any = None,
) -> T:
    """Do a job in this process."""
    module = importlib.import_module(process.JOBS[job.kind])
    parent = FakeParent()
    said = module.run(job, disks.BOUNDS, parent)
    for done, total in parent.told:
        progress(job.kind, done, total)
    return job.result(said)
