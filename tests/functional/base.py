# SPDX-License-Identifier: Apache-2.0
"""Snapshots of real guests, with the laws that hold after each."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import ClassVar

from oslo_config import cfg
from oslotest import base

from lab.directory import lab_directory
from lab.disks import Layer
from lab.evidence import Evidence
from lab.evidence import examine
from lab.guest import WitnessGuest
from lab.hypervisor import Hypervisor
from lab.options import GuestOptions
from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.snapshot.capture.environment import Environment
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from tests import faults
from tests import laws

#: Seconds. A hanging agent is waited for this long, and no longer.
QUIESCE_TIMEOUT = 2


@functools.cache
def scratch_directory() -> Path:
    """The directory of this worker, removed when the worker ends."""
    root = lab_directory() / 'f'
    root.mkdir(exist_ok=True)
    # The paths of libvirt's sockets have to be short.
    path = Path(tempfile.mkdtemp(dir=root, prefix=''))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def hypervisor() -> Hypervisor:
    """The libvirt of this worker; a process can have but one."""
    return Hypervisor(scratch_directory() / 'hv')


class HostTest(base.BaseTestCase):
    """Tests on a real libvirt, with directories of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(dir=scratch_directory()))
        self.addCleanup(shutil.rmtree, self.directory)
        self.snapshots = self.directory / 'snapshots'
        self.state = self.directory / 'state'
        self.output = self.directory / 'output'
        self.output.mkdir()

    @property
    def connection(self) -> Any:
        return hypervisor().connection

    def driver(
        self,
        connection: Any = None,
        environment: Environment | None = None,
        **options: Any,
    ) -> SnapshotDriver:
        """A driver with the directories of this test.

        :param options: as those of ``configuration()``
        """
        return SnapshotDriver(
            conf.read_settings(self.configuration(**options)),
            Host(connection or self.connection),
            environment,
        )

    def healer(self, **options: Any) -> Healer:
        """A healer with the directories of this test."""
        settings = conf.read_settings(self.configuration(**options))
        return Healer(settings.undo, Host(self.connection))

    def configuration(
        self,
        method: str = 'auto',
        quiesce: str = 'auto',
        image_format: str | None = None,
        compression: bool = False,
        retries: int = 1,
        **options: object,
    ) -> cfg.ConfigOpts:
        """
        :param options: of ``[snapshot]``
        """
        return conf.load(
            [],
            [
                ('libvirt', 'snapshots_directory', str(self.snapshots)),
                ('libvirt', 'snapshot_image_format', image_format),
                ('libvirt', 'snapshot_compression', compression),
                ('glance', 'num_retries', retries),
                ('snapshot', 'state_directory', str(self.state)),
                ('snapshot', 'method', method),
                ('snapshot', 'quiesce', quiesce),
                ('snapshot', 'quiesce_timeout', QUIESCE_TIMEOUT),
                *(
                    ('snapshot', name, value)
                    for name, value in options.items()
                ),
            ],
        )

    @contextlib.contextmanager
    def meanwhile(
        self,
        call: str,
        happens: Callable[[], object],
        connection: Any = None,
        occurrence: int = 1,
    ) -> Iterator[Any]:
        """A connection with which something happens just before a call."""
        fault = faults.Fault(
            faults.Step(0, call, occurrence), faults.Kind.MEANWHILE
        )
        with faults.Interposer(
            connection or self.connection, fault, happens
        ) as interposer:
            yield interposer.connection


class SnapshotTest(HostTest):
    """Tests that share one running guest, and give it back as it was.

    :cvar options: what the guest is like
    """

    options: ClassVar[GuestOptions]
    guest: ClassVar[WitnessGuest]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.guest = WitnessGuest(hypervisor(), cls.options)
        cls.addClassCleanup(cls.guest.discard)
        cls.guest.boot()

    def snapshot(
        self, driver: SnapshotDriver, **more: Any
    ) -> tuple[Snapshot, Layer]:
        """Snapshot the guest into a file, and see that the laws hold."""
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        snapshot = self.laws_hold(
            lambda: driver.snapshot_to_file(
                Instance(self.guest.name), str(image), **more
            )
        )
        return snapshot, Layer(image, snapshot.disks[0].disk_format)

    def snapshot_fails(
        self,
        error: type[exception.SnapshotError],
        driver: SnapshotDriver,
        **more: Any,
    ) -> exception.SnapshotError:
        """Take a snapshot that fails and leaves nothing behind."""
        image = self.output / 'image'
        image.unlink(missing_ok=True)
        raised: exception.SnapshotError = self.laws_hold(
            lambda: self.assertRaises(
                error,
                driver.snapshot_to_file,
                Instance(self.guest.name),
                str(image),
                **more,
            )
        )
        self.assertEqual([], list(self.output.iterdir()))
        return raised

    def laws_hold(self, run: Callable[[], Any]) -> Any:
        """Run something after which the guest has to be as before."""
        before = laws.Before.of(self.connection, self.guest.name)
        result = run()
        self.assertEqual([], self.broken_laws(before))
        return result

    def broken_laws(self, before: laws.Before) -> list[str]:
        return laws.differences(
            self.connection,
            before,
            laws.Directories(
                str(self.snapshots), str(self.state), str(self.output)
            ),
            laws.agent_says_frozen
            if before.state == 'running' and self.options.agent
            else lambda _domain: None,
        )

    def examine(self, image: Layer, earliest: int) -> Evidence:
        """Prove an image.

        :param earliest: the number of a record that was synced before the
            snapshot was asked for
        """
        evidence = examine(image, self.guest.fills)
        self.assertGreaterEqual(evidence.records, earliest)
        # The log is at most the one record ahead whose tick is on its way.
        self.assertLessEqual(evidence.records, self.guest.ticks.last + 1)
        return evidence
