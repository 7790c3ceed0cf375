# SPDX-License-Identifier: Apache-2.0
"""The disks of a guest at one instant, by one job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ddt

from lab.disks import Layer
from lab.evidence import number_on_second_disk
from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Staged
from nova_snapshot_driver.snapshot.destination.output_file import OutputFile
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.model import PlannedDisk
from nova_snapshot_driver.snapshot.request import Request
from nova_snapshot_driver.snapshot.request import TaskStates
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from tests.functional import base
from tests.unit import tables

TARGETS = ('vda', 'vdb')


class OutputFiles(Staged):
    """A directory with a file for each disk, called as the disk."""

    def __init__(self, domain: str, directory: Path) -> None:
        self._directory = directory
        self._files = {
            target: OutputFile(domain, str(directory / target))
            for target in TARGETS
        }

    @property
    def artefacts(self) -> Artefacts:
        files = self._files.values()
        return Artefacts(
            files=tuple(each.file for each in files),
            drafts=tuple(each.draft for each in files),
        )

    def check(self) -> None:
        for each in self._files.values():
            each.check()

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for each in self._files.values():
                stack.enter_context(each.discarded_on_failure())
            yield

    def place(self, root: str) -> Place:
        return Place(str(self._directory))

    def staging(self, workspace: Workspace, planned: PlannedDisk) -> str:
        return self._files[planned.target].draft

    def receive(self, path: str, *how: Any) -> Proof:
        [file] = (each for each in self._files.values() if each.draft == path)
        return file.receive(path, *how)


@ddt.ddt
class SeveralDisksTest(base.SnapshotTest):
    options = GuestOptions('several', second_disk=True)

    def request(
        self,
        progress: Progress = silent,
        cancellation: Cancellation | None = None,
    ) -> Request:
        return Request(
            Instance(self.guest.name),
            OutputFiles(self.guest.name, self.output),
            TaskStates(lambda **_state: None),
            progress,
            cancellation or Cancellation(),
            disks=TARGETS,
        )

    @tables.rows(
        {
            'saved': ('backup', None),
            'extracted': ('backup', 'vmdk'),
            'cold': ('cold', None),
        }
    )
    def test_one_instant(self, method: str, image_format: str | None) -> None:
        driver = self.driver(method=method, image_format=image_format)
        synced = self.guest.ticks.last
        snapshot = self.laws_hold(lambda: driver.take(self.request()))
        self.assertEqual(
            TARGETS, tuple(image.disk for image in snapshot.disks)
        )
        first, second = (
            Layer(self.output / image.disk, image.disk_format)
            for image in snapshot.disks
        )
        records = self.examine(first, synced).records
        self.assertIn(number_on_second_disk(second), (records - 1, records))

    def test_cancelled_while_the_second_is_read(self) -> None:
        """Nothing is left of the first one either."""
        cancellation = Cancellation()
        sizes: set[int] = set()

        def cancel(step: str, done: int, total: int) -> None:
            sizes.add(total)
            if len(sizes) == len(TARGETS):
                cancellation.request('the second is read')

        self.laws_hold(
            lambda: self.assertRaises(
                exception.Cancelled,
                self.driver(method='backup').take,
                self.request(cancel, cancellation),
            )
        )
        self.assertEqual([], list(self.output.iterdir()))
        self.guest.still_counts()

    def test_copies_of_several_are_refused(self) -> None:
        self.laws_hold(
            lambda: self.assertRaises(
                exception.RequestNotSupported,
                self.driver(method='mirror').take,
                self.request(),
            )
        )
