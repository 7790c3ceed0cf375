# SPDX-License-Identifier: Apache-2.0
"""A host with one guest, and all that a snapshot of it needs."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pathlib
from typing import Any

import fixtures
import libvirt
import requests_mock
from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.snapshot import undo_tools
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.snapshot.settings import Settings
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.tools import UndoTools
from tests import laws
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit.fake_ceph import FakeCeph
from tests.unit.fake_cinder import FakeCinder
from tests.unit.fake_data_plane import FakeDataPlane
from tests.unit.fake_environment import FakeEnvironment
from tests.unit.fake_glance import ENDPOINT
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_libvirt import Agent
from tests.unit.fake_libvirt import FakeConnection
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.fake_qemu_img import FakeQemuImg

#: The seconds that no wait in a test may come near to.
TIMEOUT = 5

#: The options that bound the waits for a guest and its QEMU.
GUEST_WAITS = (
    'thaw_timeout',
    'qemu_timeout',
    'shutdown_timeout',
    'suspend_timeout',
    'device_detach_timeout',
    'job_abort_timeout',
    'cancel_timeout',
)

DEVICES = (
    documents.CDROM
    + documents.file_disk('/var/lib/nova/instances/8a6f3f5e/disk')
    + documents.file_disk('/var/lib/nova/instances/8a6f3f5e/disk.eph0', 'vdb')
    + documents.CHANNEL
)

#: The root disk of a server whose images are in Ceph.
RBD_DEVICES = documents.rbd_disk() + documents.CHANNEL

CHAIN = [('/var/lib/nova/instances/_base/0a1b2c', 'raw')]


class Clock(wait.Clock):
    """A clock that goes on a step when somebody looks at it, and only then.

    A timeout of some seconds is over after some hundred polls, and as many in
    each run, however busy the machine is.
    """

    #: In seconds. Sums of it are exact.
    STEP = 1 / 128

    #: The seconds of a sleep that is to take longer than ``SHORT``: other
    #: threads are to go on.
    NAP = 0.0005
    SHORT = 0.01

    def __init__(self) -> None:
        self._looks = itertools.count()

    def monotonic(self) -> float:
        return next(self._looks) * self.STEP

    def sleep(
        self, seconds: float, cancellation: Cancellation | None = None
    ) -> None:
        super().sleep(
            seconds if seconds <= self.SHORT else self.NAP, cancellation
        )


class NoWaiting(fixtures.Fixture):
    """Everything that is looked at again is looked at again at once."""

    def _setUp(self) -> None:
        self.useFixture(fixtures.MockPatchObject(wait, 'CLOCK', Clock()))
        for name in (
            'recovery.healer.RESCUE_TIMEOUT',
            'clients.glance.UPLOAD_END_TIMEOUT',
            'clients.rbd.LATE_SNAPSHOT',
        ):
            self.useFixture(
                fixtures.MockPatch(f'nova_snapshot_driver.{name}', 0)
            )
        for name, seconds in {
            'snapshot.destination.volume_snapshots.POLL_INTERVAL': 0.002,
            'snapshot.destination.volume_snapshots.POLL_INTERVAL_OF_MANY': 0,
            'takings.cinder_snapshots.PATIENT_INTERVAL': 0.002,
            'takings.cinder_snapshots.LATE_REQUEST': 0.02,
        }.items():
            self.useFixture(
                fixtures.MockPatch(f'nova_snapshot_driver.{name}', seconds)
            )
        # Every look is a step before which something can happen: two of them.
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.hypervisor.backup_job.END_TIMEOUT',
                1.5 * Clock.STEP,
            )
        )


class GlanceContext:
    """The context of a request for a snapshot, with other tokens each time.

    :ivar accesses: how often it was asked for the way to Glance or to Cinder
    :ivar troubles: what is raised instead, by the number of the access from
        1 on
    :ivar timeout: the seconds in which Glance may be silent
    :ivar cacert: the file with the certificates to trust
    :ivar hidden: the projects of which it shows nothing
    """

    def __init__(self, endpoint: str = ENDPOINT) -> None:
        self._endpoint = endpoint
        self.timeout: float = 30
        self.cacert: str | None = None
        self.hidden: set[str | None] = set()
        self.accesses = 0
        self.troubles: dict[int, Exception] = {}

    def glance_access(self) -> GlanceAccess:
        self.accesses += 1
        if self.accesses in self.troubles:
            raise self.troubles[self.accesses]
        return GlanceAccess(
            self._endpoint,
            token=f't0ken-{self.accesses}',
            service_token=f's3rvice-{self.accesses}',
            cacert=self.cacert,
            timeout=self.timeout,
        )

    def cinder_access(self) -> CinderAccess:
        """:raises: what is in trouble, as above"""
        self.accesses += 1
        if self.accesses in self.troubles:
            raise self.troubles[self.accesses]
        return CinderAccess(
            fake_cinder.ENDPOINT,
            token=f't0ken-{self.accesses}',
            service_token=f's3rvice-{self.accesses}',
            timeout=30,
        )

    def sees(self, project: str | None) -> bool:
        return project not in self.hidden


class FakeHost(fixtures.Fixture):
    """A host with one guest.

    :param devices: those that Nova does not give every guest
    :param state: of the guest, as libvirt has it
    :ivar cinder: where its volumes are
    :ivar volumes: the ids of those
    """

    volumes: tuple[str, ...] = ()
    metadata = documents.METADATA

    def __init__(
        self,
        devices: str = DEVICES,
        agent: Agent = Agent.ANSWERS,
        state: int = libvirt.VIR_DOMAIN_RUNNING,
    ) -> None:
        super().__init__()
        self._devices = devices
        self._agent = agent
        self._state = state

    def _setUp(self) -> None:
        self.useFixture(NoWaiting())
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.connection = FakeConnection()
        self.machine = self.connection.add(
            documents.inactive(self._devices, metadata=self.metadata)
        )
        if 'network' not in self._devices:
            self.machine.chains['vda'] = CHAIN
        self.machine.autostart = True
        self.machine.agent = self._agent
        if self._state != libvirt.VIR_DOMAIN_SHUTOFF:
            self.machine.start(self._state)

        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.directories = laws.Directories(
            snapshots=str(self.root / 'snapshots'),
            state=str(self.root / 'state'),
            output=str(self.root),
        )
        self.conf: cfg.ConfigOpts = conf.load(
            [],
            [
                ('libvirt', 'snapshots_directory', self.directories.snapshots),
                ('snapshot', 'state_directory', self.directories.state),
                *(
                    ('snapshot', option, TIMEOUT)
                    for option in (*GUEST_WAITS, 'mirror_timeout')
                ),
                # The guest is a fake, and the disk somebody's.
                ('snapshot', 'scratch_reserve', 1),
            ],
        )
        self.glance = FakeGlance()
        mocker = self.useFixture(_RequestsMock()).mocker
        self.glance.mocked(mocker)
        self.cinder = FakeCinder(self.volumes)
        self.cinder.mocked(mocker)
        self.image = self.glance.add(name='a snapshot')
        self.qemu_img = FakeQemuImg()
        self.ceph = FakeCeph()
        self.disk = self.ceph.add(
            'vms', documents.RBD_IMAGE, parent=('images', 'base', 'snap')
        )
        self.glance.at_delete = self.ceph.delete_as_glance
        self.useFixture(
            fixtures.MockPatch(
                'oslo_concurrency.processutils.execute', self._execute
            )
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.transfer.nbd.libnbd.is_available',
                return_value=True,
            )
        )
        self.data_plane = FakeDataPlane(self.glance, self.ceph)
        for call in ('run', 'started'):
            self.useFixture(
                fixtures.MockPatch(
                    f'nova_snapshot_driver.transfer.data_plane.{call}',
                    getattr(self.data_plane, call),
                )
            )
        self.environment = FakeEnvironment()
        self.context = GlanceContext()
        self.task_states: list[dict[str, Any]] = []

    def _execute(self, *command: str, **how: Any) -> tuple[str, str]:
        if command[0] == 'qemu-img':
            return self.qemu_img.execute(*command, **how)
        return self.ceph.execute(*command, **how)

    def set(self, group: str, option: str, value: object) -> None:
        self.conf.set_override(option, value, group=group)

    def bound_guest_waits(self, seconds: int) -> None:
        for option in GUEST_WAITS:
            self.set('snapshot', option, seconds)

    @property
    def settings(self) -> Settings:
        return conf.read_settings(self.conf)

    def guest(self) -> Guest:
        return Host(self.connection).guest(documents.NAME)

    def undo_tools(self) -> UndoTools:
        guest = self.guest()
        return undo_tools.of(
            self.settings.undo,
            Journal(self.directories.state),
            guest.uuid,
            guest.name,
            guest,
        )

    def before(self) -> laws.Before:
        return laws.Before.of(self.connection, documents.NAME)

    def differences(self, before: laws.Before) -> list[str]:
        """The breaches of the laws, of the domain and beyond it."""
        found = laws.differences(
            self.connection, before, self.directories, _is_frozen
        )
        if not self.machine.nvram:
            found.append('its NVRAM is lost')
        if not self.machine.tpm:
            found.append('the state of its vTPM is lost')
        if self.machine.saved and self.machine.saved.frozen:
            found.append('its memory was saved with frozen file systems')
        found += self.ceph.leftovers()
        if ('images', self.image) in self.ceph.images:
            image = self.glance.images.get(self.image)
            if image is None or image['status'] != 'active':
                found.append('in Ceph: a clone that is no image')
        # The tools make the directory, which some expect to be missing.
        if not found and os.path.isdir(self.directories.state):
            # A domain that is gone lacks nothing, and a call of the snapshot
            # that is under way still keeps its place;
            # the laws above are asked past it.
            with contextlib.suppress(
                exception.HypervisorSilent, exception.DomainNotFound
            ):
                found += laws.suspicions(self.undo_tools())
        return found

    def driver(self, connection: Any = None) -> SnapshotDriver:
        return SnapshotDriver(
            self.settings,
            Host(connection or self.connection),
            self.environment,
        )

    def healer(self, connection: Any = None) -> Healer:
        return Healer(
            self.settings.undo,
            Host(connection or self.connection),
            self.environment,
        )

    def snapshot(
        self,
        connection: Any = None,
        cancellation: Cancellation | None = None,
        instance: Instance | None = None,
        update_task_state: Any = None,
        progress: Progress = silent,
    ) -> Snapshot:
        """Snapshot the guest into the image."""
        return self.driver(connection).snapshot(
            self.context,
            instance or Instance(documents.NAME),
            self.image,
            update_task_state or self.update_task_state,
            progress,
            cancellation,
        )

    def update_task_state(self, **states: Any) -> None:
        self.task_states.append(states)


def _is_frozen(domain: FakeDomain) -> bool:
    return domain._machine.frozen


class _RequestsMock(fixtures.Fixture):
    def _setUp(self) -> None:
        # Nobody's proxies are ours.
        self.useFixture(
            fixtures.MockPatch(
                'requests.sessions.get_environ_proxies', return_value={}
            )
        )
        self.mocker = requests_mock.Mocker()
        self.mocker.start()
        self.addCleanup(self.mocker.stop)
