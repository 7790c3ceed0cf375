# SPDX-License-Identifier: Apache-2.0
"""Servers of a real cloud, and what holds after each of their snapshots."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import ClassVar

import libvirt
import libvirt_qemu
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.image.v2.image import Image
from oslotest import base
from testtools import testcase
from testtools.content import text_content

from lab.bounded import wait_until
from lab.cloud.cloud import Cloud
from lab.cloud.configuration import Overrides
from lab.cloud.options import CloudOptions
from lab.cloud.options import Concurrency
from lab.directory import lab_directory
from lab.disks import Layer
from lab.evidence import Evidence
from lab.evidence import examine
from lab.proxy import FaultyProxy
from lab.witness import WitnessImage
from tests import laws

#: Seconds. Guests are emulated, several at a time.
BOOT_TIMEOUT = 180
SNAPSHOT_TIMEOUT = 180
DELETE_TIMEOUT = 60
AGENT_TIMEOUT = 60

#: How a server comes into a state, and out of it.
TRANSITIONS = {
    'PAUSED': ('pause_server', 'unpause_server'),
    'SUSPENDED': ('suspend_server', 'resume_server'),
    'SHUTOFF': ('stop_server', 'start_server'),
}

#: The clients say everything twice; the log of nova-compute is attached.
QUIET = ('keystoneauth', 'openstack', 'urllib3', 'stevedore')

#: Marks a test in which the threads of nova-compute have a part: the suite of
#: eventlet has it too.
depends_on_threads = testcase.attr('threads')

_RECORD = re.compile(r'^witness record (\d+)', re.MULTILINE)


def options(**others: Any) -> CloudOptions:
    """The options of the cloud for this run of the suite."""
    concurrency = os.environ.get('NOVA_SNAPSHOT_CONCURRENCY', 'threading')
    return CloudOptions(concurrency=Concurrency(concurrency), **others)


@functools.cache
def running_cloud() -> Cloud:
    """The cloud of ``make cloud``, started now if it does not run."""
    cloud = Cloud()
    # Each class says itself what it has to be like.
    if not cloud.running:
        cloud.ensure(options())
    return cloud


@functools.cache
def glance_proxy() -> FaultyProxy:
    """Through which nova-compute reaches Glance.

    For another one it would have to be restarted, which takes ten seconds.
    """
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(FaultyProxy(running_cloud().glance_url))


class CloudTest(testcase.WithAttributes, base.BaseTestCase):
    """A test with servers of its own, in a cloud that all tests share.

    :cvar cloud_options: beside the usual ones
    :cvar nova_compute: options of nova-compute, beside the usual ones
    """

    cloud_options: ClassVar[dict[str, Any]] = {}
    nova_compute: ClassVar[Overrides] = {}
    cloud: ClassVar[Cloud]
    demo: ClassVar[Connection]
    admin: ClassVar[Connection]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # By default every error is also printed, the expected ones too.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        cls.cloud = running_cloud()
        # Start with the usual options: those of another class are forgotten.
        cls.cloud.ensure(options(**cls.cloud_options), cls.overrides())
        cls.demo = cls.cloud.connection('demo')
        cls.admin = cls.cloud.connection('admin')

    @classmethod
    def overrides(cls) -> Overrides:
        """All options of nova-compute that are not those of the cloud."""
        return {
            ('glance', 'endpoint_override'): glance_proxy().url,
            **cls.nova_compute,
        }

    def setUp(self) -> None:
        super().setUp()
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.log = self.cloud.log('nova-compute')
        self.addOnException(self._attach_log)

    def _attach_log(self, _exc_info: Any) -> None:
        self.addDetail(
            'nova-compute.log',
            text_content('\n'.join(self.log.text.splitlines()[-200:])),
        )

    @functools.cached_property
    def directory(self) -> Path:
        """For downloads; removed after the test."""
        directory = tempfile.TemporaryDirectory(
            dir=lab_directory(), prefix='test.'
        )
        self.addCleanup(directory.cleanup)
        return Path(directory.name)

    # Images

    @classmethod
    def upload(cls, **properties: Any) -> Image:
        """An image with the witness, deleted after the class."""
        # By its type it may be one of version 1.
        glance: Any = cls.demo.image
        image: Image = glance.create_image(
            f'{cls.__name__}-{uuid.uuid4().hex[:6]}',
            **{
                'filename': str(WitnessImage.build().base_qcow2),
                'disk_format': 'qcow2',
                'container_format': 'bare',
                **properties,
            },
        )
        cls.addClassCleanup(cls.admin.image.delete_image, image.id)
        return image

    # Servers

    @classmethod
    def boot(
        cls,
        image: str | Image = 'witness',
        connection: Connection | None = None,
        **attributes: Any,
    ) -> Server:
        """Boot a server, and wait until its guest writes.

        Whoever calls it has it deleted: :meth:`delete`.
        """
        found = (connection or cls.demo).image.find_image(
            image if isinstance(image, str) else image.id,
            ignore_missing=False,
        )
        server = cls.start(found.id, connection, **attributes)
        cls.wait_for_records(server, 1)
        if found.hw_qemu_guest_agent == 'yes':
            cls.wait_for_agent(server)
        return server

    @classmethod
    def start(
        cls,
        image: str,
        connection: Connection | None = None,
        **attributes: Any,
    ) -> Server:
        """Boot a server, and do not wait for its guest.

        :param image: its id
        """
        compute = (connection or cls.demo).compute
        server = compute.create_server(
            **{
                'name': f'{cls.__name__}-{uuid.uuid4().hex[:6]}',
                'image_id': image,
                'flavor_id': compute.find_flavor(
                    'tiny', ignore_missing=False
                ).id,
                'networks': 'none',
                **attributes,
            }
        )
        return compute.wait_for_server(server, interval=0.3, wait=BOOT_TIMEOUT)

    def new_server(self, *args: Any, **attributes: Any) -> Server:
        """A server that is deleted after the test."""
        server = self.boot(*args, **attributes)
        self.addCleanup(self.delete, server)
        return server

    @classmethod
    def delete(cls, server: Server) -> None:
        """Delete a server, and wait until it is gone."""
        with contextlib.suppress(sdk_exceptions.NotFoundException):
            cls.admin.compute.delete_server(server.id, force=True)
            cls.admin.compute.wait_for_delete(
                cls.admin.compute.get_server(server.id),
                interval=0.3,
                wait=DELETE_TIMEOUT,
            )

    def wait_for_status(self, server: Server, status: str) -> Server:
        """Wait for a server to have a status, and no task.

        :param status: such as ``ACTIVE``
        """
        found: list[Server] = []

        def reached() -> bool:
            found[:] = [self.admin.compute.get_server(server.id)]
            return found[0].status == status and not found[0].task_state

        wait_until(reached, f'{server.name} to be {status}', BOOT_TIMEOUT, 0.2)
        return found[0]

    @contextlib.contextmanager
    def in_state(self, server: Server, status: str) -> Iterator[Server]:
        """An active server in another state; it writes on afterwards.

        :param status: such as ``PAUSED``; ``ACTIVE`` changes nothing
        """
        if status == 'ACTIVE':
            yield self.wait_for_status(server, status)
        else:
            there, back = TRANSITIONS[status]
            getattr(self.demo.compute, there)(server.id)
            try:
                yield self.wait_for_status(server, status)
            finally:
                getattr(self.demo.compute, back)(server.id)
                self.wait_for_status(server, 'ACTIVE')
        self.wait_for_records(server)

    # The guest

    @classmethod
    def records(cls, server: Server) -> int:
        """The number of a record that the guest has synced."""
        answer = cls.admin.compute.get_server_console_output(server.id)
        numbers = _RECORD.findall((answer['output'] or '').replace('\r', ''))
        return int(numbers[-1]) if numbers else 0

    @classmethod
    def wait_for_records(cls, server: Server, more: int = 1) -> int:
        """Wait until the guest has said that it has written more."""
        before = cls.records(server)
        wait_until(
            lambda: cls.records(server) >= before + more,
            f'the guest of {server.name} to write',
            BOOT_TIMEOUT,
            0.5,
        )
        return cls.records(server)

    @classmethod
    def wait_for_agent(cls, server: Server) -> None:
        """Wait until the guest agent answers."""

        def answers() -> bool:
            try:
                cls.ask_agent(server, 'guest-ping')
            except libvirt.libvirtError:
                return False
            return True

        wait_until(answers, f'the agent of {server.name}', AGENT_TIMEOUT, 0.2)

    @classmethod
    def ask_agent(cls, server: Server, command: str, **arguments: Any) -> Any:
        """Have the guest agent run a command, and return its result.

        :raises libvirt.libvirtError: no agent, no answer, or an error
        """
        request = {'execute': command, 'arguments': arguments}
        with cls.domain(server) as domain:
            answer = libvirt_qemu.qemuAgentCommand(
                domain, json.dumps(request), AGENT_TIMEOUT, 0
            )
        return json.loads(answer)['return']

    def run_in_guest(self, server: Server, script: str) -> None:
        """Run a shell script in the guest, and wait for its end."""
        process = self.ask_agent(
            server, 'guest-exec', path='/bin/sh', arg=['-c', script]
        )
        status: dict[str, Any] = {}

        def ended() -> bool:
            status.update(
                self.ask_agent(server, 'guest-exec-status', pid=process['pid'])
            )
            return bool(status['exited'])

        wait_until(ended, f'the end of {script!r}', AGENT_TIMEOUT, 0.2)
        self.assertEqual(0, status.get('exitcode'), script)

    # Snapshots

    def snapshot(
        self,
        server: Server,
        name: str | None = None,
        connection: Connection | None = None,
        **metadata: str,
    ) -> Image:
        """Snapshot a server; the image is active, and deleted afterwards."""
        image = self.ask_for_snapshot(server, name, connection, **metadata)
        return self.wait_for_image(image, connection)

    def ask_for_snapshot(
        self,
        server: Server,
        name: str | None = None,
        connection: Connection | None = None,
        **metadata: str,
    ) -> Image:
        """Ask for a snapshot, and do not wait for it."""
        connection = connection or self.demo
        image = connection.compute.create_server_image(
            server.id,
            name or f'{self.id().rpartition(".")[2]}-{uuid.uuid4().hex[:6]}',
            metadata=metadata or None,
        )
        self.addCleanup(self.admin.image.delete_image, image.id)
        return image

    def wait_for_image(
        self, image: Image, connection: Connection | None = None
    ) -> Image:
        """Wait until an image is active, and its server has no task."""
        # By its type it may be one of version 1.
        glance: Any = (connection or self.demo).image
        image = glance.wait_for_status(
            glance.get_image(image.id),
            status='active',
            failures=['killed', 'deleted'],
            interval=0.3,
            wait=SNAPSHOT_TIMEOUT,
        )
        self.wait_for_no_task(image.instance_uuid)
        return image

    def wait_for_no_task(self, server: str) -> Server:
        """Wait until nothing is done to a server.

        :param server: its id
        """
        found: list[Server] = []

        def idle() -> bool:
            found[:] = [self.admin.compute.get_server(server)]
            return not found[0].task_state

        wait_until(idle, f'the end of the task of {server}', BOOT_TIMEOUT, 0.2)
        return found[0]

    def wait_until_gone(self, image: Image) -> None:
        """Wait until Glance does not have an image."""
        wait_until(
            lambda: self.admin.image.find_image(image.id) is None,
            f'image {image.id} to be gone',
            SNAPSHOT_TIMEOUT,
            0.3,
        )

    def download(self, image: Image) -> Layer:
        path = self.directory / image.id
        self.admin.image.download_image(image.id, output=str(path))
        return Layer(path, image.disk_format)

    def examine(self, image: Image, earliest: int) -> Evidence:
        """Prove an image.

        :param earliest: a record that was synced before the snapshot was
            asked for
        """
        return self.examine_file(self.download(image), earliest)

    def examine_file(self, file: Layer, earliest: int) -> Evidence:
        """Prove an image that was not sent to Glance."""
        evidence = examine(file, {'base': WitnessImage.build().fills['base']})
        self.assertGreaterEqual(evidence.records, earliest)
        return evidence

    def fault(self, server: Server) -> str:
        """Why something has failed last, as Nova tells the user.

        It tells it of a server with the status ERROR alone.

        :param server: an active one
        """
        self.admin.compute.reset_server_state(server.id, 'error')
        try:
            fault = self.demo.compute.get_server(server.id).fault or {}
        finally:
            self.admin.compute.reset_server_state(server.id, 'active')
        return str(fault.get('message'))

    # The host

    def before(self, server: Server) -> laws.Before:
        """The state of a server's domain."""
        with self.hypervisor() as connection:
            return laws.Before.of(connection, self._domain_name(server))

    def assert_as_before(self, before: laws.Before) -> None:
        """No snapshot has left anything on the host or on a domain."""
        with self.hypervisor() as connection:
            self.assertEqual(
                [], laws.differences(connection, before, self.directories)
            )

    @property
    def directories(self) -> laws.Directories:
        return laws.Directories(
            str(self.cloud.instances_path / 'snapshots'),
            str(self.cloud.instances_path.parent / 'snapshot-driver'),
        )

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """``nova-snapshot`` of Nova's own environment, with its options."""
        etc = self.cloud.directory / 'etc/nova'
        return [
            self.cloud.install.programs / 'nova-snapshot',
            *arguments,
            *('--format', 'json'),
            *('--config-file', etc / 'nova.conf'),
            *('--config-file', etc / 'nova-compute.conf'),
        ]

    def environment_of(self, user: str) -> dict[str, str]:
        """The environment of a command that works for a user of the cloud."""
        clouds = self.cloud.directory / 'clouds.yaml'
        return {
            **os.environ,
            'OS_CLIENT_CONFIG_FILE': str(clouds),
            'OS_CLOUD': user,
        }

    @classmethod
    @contextlib.contextmanager
    def hypervisor(cls) -> Iterator[Any]:
        """A connection to the libvirt of the cloud."""
        connection = libvirt.open(cls.cloud.libvirt_uri)
        try:
            yield connection
        finally:
            connection.close()

    @classmethod
    @contextlib.contextmanager
    def domain(cls, server: Server) -> Iterator[Any]:
        with cls.hypervisor() as connection:
            yield connection.lookupByUUIDString(server.id)

    def _domain_name(self, server: Server) -> str:
        with self.domain(server) as domain:
            name: str = domain.name()
            return name


class ServerTest(CloudTest):
    """Tests that share one server, and give it back as it was.

    :cvar attributes: of the server, beside the usual ones
    :cvar properties: of an image that is made for it; none: it is made from
        the image of all
    """

    attributes: ClassVar[dict[str, Any]] = {}
    properties: ClassVar[dict[str, Any]] = {}
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot(cls.make_image(), **cls.attributes)
        cls.addClassCleanup(cls.delete, cls.server)

    @classmethod
    def make_image(cls) -> str | Image:
        """The source of the server: an image."""
        return cls.upload(**cls.properties) if cls.properties else 'witness'
