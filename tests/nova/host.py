# SPDX-License-Identifier: Apache-2.0
"""A host with a nova-compute and one guest."""

from __future__ import annotations

import logging
import pathlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import fixtures
import libvirt
import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from nova.compute import manager
from nova.compute import task_states
from nova.image import glance
from nova.tests import fixtures as nova_fixtures
from nova.virt import driver as nova_driver
from nova.virt import fake as nova_fake

from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.state.journal import Journal
from tests import laws
from tests.nova.base import NovaCase
from tests.unit import documents
from tests.unit.entries import taken
from tests.unit.fake_glance import ENDPOINT
from tests.unit.fake_libvirt import Agent
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import DEVICES
from tests.unit.host import GUEST_WAITS
from tests.unit.host import FakeHost

CONF = nova.conf.CONF

#: The value of ``compute_driver``.
COMPUTE_DRIVER = 'snapshot_driver.LibvirtSnapshotDriver'

USER_TOKEN = 'the-token-of-the-user'
GLOBAL_REQUEST_ID = 'req-11111111-2222-3333-4444-555555555555'

#: The seconds that no wait in a test may come near to.
PATIENCE = 30

#: The property of an image that says that there is an agent.
AGENT = {'image_hw_qemu_guest_agent': 'yes'}

REQUIRES_QUIESCE = {**AGENT, 'image_os_require_quiesce': 'yes'}


BACKUP_JOB = """\
<domainbackup mode='pull'>
  <server transport='unix' socket='{socket}'/>
  <disks>
    <disk name='vda' backup='yes' type='file' exportname='vda'>
      <scratch file='{scratch}'/>
    </disk>
  </disks>
</domainbackup>
"""


def request_context(**fields: Any) -> nova_context.RequestContext:
    """The context of a request by a user."""
    return nova_context.RequestContext(
        **{
            'user_id': documents.USER,
            'project_id': documents.PROJECT,
            'auth_token': USER_TOKEN,
            'global_request_id': GLOBAL_REQUEST_ID,
            **fields,
        }
    )


def instance(**fields: Any) -> objects.Instance:
    """The instance of the guest."""
    return objects.Instance(
        **{
            'id': 42,
            'uuid': documents.UUID,
            'user_id': documents.USER,
            'project_id': documents.PROJECT,
            'image_ref': documents.BASE_IMAGE,
            'os_type': None,
            'kernel_id': None,
            'ramdisk_id': None,
            'system_metadata': AGENT,
            'display_name': 'web-1',
            'metadata': {},
            'task_state': task_states.IMAGE_SNAPSHOT,
            'availability_zone': 'zone-1',
            'flavor': objects.Flavor(extra_specs={}),
            **fields,
        }
    )


class TaskState:
    """The task state of the instance, as the database has it.

    :ivar now: what it is
    :ivar updates: what it was set to, and what it was expected to be
    :ivar troubles: what is raised instead of an update, by its number from 1
        on
    """

    def __init__(self) -> None:
        self.now = task_states.IMAGE_SNAPSHOT
        self.updates: list[tuple[str, str]] = []
        self.troubles: dict[int, Exception] = {}

    def update(
        self,
        task_state: str,
        expected_state: str = task_states.IMAGE_SNAPSHOT,
    ) -> None:
        """As in ``ComputeManager._snapshot_instance``."""
        self.updates.append((task_state, expected_state))
        if len(self.updates) in self.troubles:
            raise self.troubles[len(self.updates)]
        if self.now != expected_state:
            raise nova_exception.UnexpectedTaskStateError(
                instance_uuid=documents.UUID,
                expected={'task_state': expected_state},
                actual={'task_state': self.now},
            )
        self.now = task_state


class Upstream:
    """A method of Nova's own driver, in whose place this is called.

    :ivar calls: the arguments of each call
    :ivar at_call: called meanwhile
    """

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.at_call: Callable[[], object] = lambda: None

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append((args, kwargs))
        self.at_call()


class Hold:
    """Somewhere in a snapshot, which waits there until it is let go.

    :ivar reached: it waits
    :ivar released: it need not wait any more
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.released.wait(PATIENCE), 'nobody has let it go'

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE), 'it never came so far'

    def release(self) -> None:
        self.released.set()


class ComputeHost(FakeHost):
    """A host with a nova-compute and one guest.

    Nova is the real one, up to libvirt and Glance.

    :ivar compute: the driver, as nova-compute loads it
    :ivar instance: of the guest
    :ivar task_state: of that instance
    :ivar bdms: its block device mappings; none stand for a root disk that is
        no volume
    :ivar upstream_snapshot: stands for what Nova's own driver does; so do the
        next two
    """

    def __init__(
        self,
        devices: str = DEVICES,
        agent: Agent = Agent.ANSWERS,
        state: int = libvirt.VIR_DOMAIN_RUNNING,
    ) -> None:
        super().__init__(devices, agent, state)

    def _setUp(self) -> None:
        super()._setUp()
        self.log = self.useFixture(
            fixtures.FakeLogger(
                level=logging.DEBUG,
                format='%(levelname)s %(name)s %(message)s',
            )
        )
        self.useFixture(nova_fixtures.LibvirtFixture())
        self.upstream_snapshot = self._upstream('snapshot')
        self.upstream_destroy = self._upstream('destroy')
        self.upstream_init_host = self._upstream('init_host')
        self.upstream_cleanup_host = self._upstream('cleanup_host')
        self.compute = nova_driver.load_compute_driver(
            nova_fake.FakeVirtAPI(), COMPUTE_DRIVER
        )
        self.conf = CONF
        self.set('libvirt', 'snapshots_directory', self.directories.snapshots)
        self.set('snapshot', 'state_directory', self.directories.state)
        for option in (*GUEST_WAITS, 'mirror_timeout'):
            self.set('snapshot', option, PATIENCE)
        self.set('glance', 'api_servers', [ENDPOINT])
        self.useFixture(
            fixtures.MockPatchObject(
                self.compute._host, 'get_connection', lambda: self.connection
            )
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.nova.upstream.connect',
                lambda _host: self.connection,
            )
        )
        for module in ('running', 'environment'):
            self.useFixture(
                fixtures.MockPatch(
                    f'nova_snapshot_driver.nova.{module}.POLL_INTERVAL', 0.005
                )
            )
        self.bdms = objects.BlockDeviceMappingList(objects=[])
        self.useFixture(
            fixtures.MockPatch(
                'nova.objects.BlockDeviceMappingList.get_by_instance_uuid',
                lambda _context, _uuid: self.bdms,
            )
        )
        # The image API with which the manager deletes images.
        self.image_api = glance.API()
        self.request_context = request_context()
        self.instance = instance()
        self.task_state = TaskState()
        self._threads = futures.ThreadPoolExecutor()
        self.addCleanup(self._threads.shutdown)

    def _upstream(self, method: str) -> Upstream:
        upstream = Upstream()
        self.useFixture(
            fixtures.MonkeyPatch(
                f'nova.virt.libvirt.driver.LibvirtDriver.{method}',
                lambda _self, *args, **kwargs: upstream(*args, **kwargs),
            )
        )
        return upstream

    def take(
        self,
        of: objects.Instance | None = None,
        image: str | None = None,
        task_state: TaskState | None = None,
    ) -> None:
        """Take a snapshot, as nova-compute does."""
        self.compute.snapshot(
            self.request_context,
            of or self.instance,
            image or self.image,
            (task_state or self.task_state).update,
        )

    def take_and_clean_up(self) -> None:
        """Take a snapshot, with nova-compute's reaction to an error."""
        self._take(self.request_context, self.image, self.instance)

    @manager.delete_image_on_error
    def _take(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        instance: objects.Instance,
    ) -> None:
        # Use the names of the first snapshot.
        self.take(instance, image_id)

    def begin(
        self, of: objects.Instance | None = None, image: str | None = None
    ) -> futures.Future[None]:
        """Begin a snapshot in another thread."""
        return self._threads.submit(self.take, of, image, TaskState())

    def hold_extraction(self) -> Hold:
        """The next extraction waits, until it is let go or cancelled."""
        hold = Hold()

        def wait() -> None:
            cancellation = self.data_plane.cancellation
            self.data_plane.at_extract = lambda: None
            hold.reached.set()
            while not hold.released.is_set():
                assert cancellation is not None
                cancellation.sleep(0.005)

        self.data_plane.at_extract = wait
        self.addCleanup(hold.release)
        return hold

    def hold_upload(self) -> Hold:
        """The next upload waits, and is deaf until it is let go."""
        hold = Hold()

        def wait() -> None:
            self.data_plane.at_upload = lambda: None
            hold()

        self.data_plane.at_upload = wait
        self.addCleanup(hold.release)
        return hold

    def die_in_mid_copy(self) -> None:
        """Leave what a nova-compute leaves that is killed during a copy."""
        guest = Host(self.connection).guest(documents.NAME)
        Journal(self.directories.state).remember(
            taken(guest.definition(), image=self.image)
        )
        guest.undefine()
        space = pathlib.Path(self.directories.snapshots)
        delta = space / f'{documents.UUID}-x1y2z3' / 'delta'
        delta.parent.mkdir(parents=True)
        delta.touch()
        FakeDomain(self.machine).begin_copy('vda', str(delta))

    def die_in_mid_stream(self) -> None:
        """Leave what a nova-compute leaves that is killed during a stream."""
        guest = Host(self.connection).guest(documents.NAME)
        Journal(self.directories.state).remember(
            taken(guest.definition(), image=self.image).given_back()
        )
        space = pathlib.Path(self.directories.snapshots)
        socket = space / f'libvirt-{documents.UUID}.a1b2c3d4' / 's'
        scratch = space / f'{documents.UUID}-x1y2z3' / 'scratch-vda'
        for file in (socket, scratch):
            file.parent.mkdir(parents=True)
        FakeDomain(self.machine).backupBegin(
            BACKUP_JOB.format(socket=socket, scratch=scratch), None
        )


class ComputeCase(NovaCase):
    """Tests on a host with a nova-compute and one guest."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.compute_host()
        self.before = self.host.before()

    def compute_host(self) -> ComputeHost:
        host: ComputeHost = self.useFixture(ComputeHost())
        return host

    def assert_given_back(self, before: laws.Before | None = None) -> None:
        """The guest is as it was found."""
        self.assertEqual([], self.host.differences(before or self.before))

    def assert_image_is_gone(self) -> None:
        self.assertNotIn(self.host.image, self.host.glance.images)

    def assert_image_is_untouched(self) -> None:
        self.assertEqual(
            'queued', self.host.glance.images[self.host.image]['status']
        )
        methods = {each.method for each in self.host.glance.requests}
        self.assertLessEqual(methods, {'GET'})
