# SPDX-License-Identifier: Apache-2.0
"""A server whose guest writes all the time and tells the host of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.connection import Connection

from bench.errors import BenchError
from lab.bounded import wait_until
from lab.cloud.cloud import Cloud
from lab.cloud.content import IMAGE
from lab.cloud.content import RAW_IMAGE
from lab.cloud.content import volumes_to_boot_from
from lab.directory import check_socket_path
from lab.ticks import Ticks

_BOOT_TIMEOUT = 180
_DELETE_TIMEOUT = 120
_AGENT_TIMEOUT = 60
_SCRIPT_TIMEOUT = 300
_TICK_TIMEOUT = 30
_SETTLE_INTERVAL = 5.0

#: Bytes.
_BLOCK = 512
_SETTLED = 256 << 10

_CHANNEL = """\
<channel type='unix'>
  <source mode='bind' path='{path}'/>
  <target type='virtio' name='org.bench.tick'/>
</channel>
"""

# A record every 10 ms, of which the host hears; 1 MiB a second over and over
# the same 16 MiB.
_WRITE = """\
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" != org.bench.tick ] || name=${port##*/}
done
exec </dev/null >/dev/null 2>&1
witness record /data/ticks "/dev/$name" - 10 &
dd if=/data/base of=/data/churn bs=256k count=64
while :; do
    block=0
    while [ "$block" -lt 64 ]; do
        dd if=/data/base of=/data/churn bs=256k count=1 \\
            skip="$block" seek="$block" conv=notrunc,fsync
        block=$((block + 1))
        usleep 250000
    done
done &
"""

_END_AGENT = '(sleep 1; kill $(cat /run/qemu-ga.pid)) &'


@dataclasses.dataclass(frozen=True)
class Shape:
    """The properties of a new server."""

    #: GiB, unless it has volumes: those have 1 GiB each
    disk: int = 1
    #: is done to its disk before the guest writes
    prepare: Callable[[Path], None] | None = None
    #: how many it has, and boots from the first one; none: it has a file
    volumes: int = 0


class BenchServer:
    """A server; it is deleted at the end of the context."""

    def __init__(self, cloud: Cloud, shape: Shape) -> None:
        self._cloud = cloud
        self._shape = shape
        self._demo = cloud.connection('demo')
        self._admin = cloud.connection('admin')
        self._name = f'bench-{uuid.uuid4().hex[:6]}'
        self._server: Server | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Ticks]:
        """Run the server, and yield the ticks of its guest."""
        with contextlib.ExitStack() as stack:
            flavor = self._admin.compute.create_flavor(
                name=self._name, ram=256, vcpus=1, disk=self._shape.disk
            )
            stack.callback(self._admin.compute.delete_flavor, flavor)
            stack.callback(self._delete)
            self._boot(flavor.id)
            if self._shape.prepare is not None:
                self._change(self._demo.compute.stop_server, 'SHUTOFF')
                self._shape.prepare(self.disk)
                self._change(self._demo.compute.start_server, 'ACTIVE')
            self._wait_for_agent()
            socket = self._attach_channel()
            stack.callback(socket.unlink, missing_ok=True)
            ticks = stack.enter_context(Ticks(socket))
            self.ask_agent('guest-exec', path='/bin/sh', arg=['-c', _WRITE])
            ticks.wait(10, _TICK_TIMEOUT)
            yield ticks

    @contextlib.contextmanager
    def snapshot(self, **properties: str) -> Iterator[str]:
        """Ask for a snapshot; its image, of this id, is deleted at the end.

        :param properties: of the image
        """
        image = self._made.create_image(
            self._demo.compute, f'bench-{uuid.uuid4().hex[:6]}', properties
        )
        try:
            yield image
        finally:
            # A type of the SDK that may be a proxy of version 1.
            glance: Any = self._demo.image
            glance.delete_image(image, ignore_missing=True)

    def pause(self) -> None:
        self._change(self._demo.compute.pause_server, 'PAUSED')

    def unpause(self) -> None:
        self._change(self._demo.compute.unpause_server, 'ACTIVE')

    @contextlib.contextmanager
    def unpaused(self) -> Iterator[None]:
        """Let a paused server run for a while."""
        self.unpause()
        try:
            yield
        finally:
            self.pause()

    @property
    def id(self) -> str:
        return str(self._made.id)

    @property
    def volumes(self) -> list[str]:
        """The ids of its volumes."""
        return [
            attachment.volume_id
            for attachment in self._admin.compute.volume_attachments(self.id)
        ]

    @property
    def disk(self) -> Path:
        return self._cloud.instances_path / self.id / 'disk'

    @property
    def size(self) -> int:
        """The size of its disk, in GiB."""
        return self._shape.disk

    @property
    def domain(self) -> Any:
        return libvirt.open(self._cloud.libvirt_uri).lookupByUUIDString(
            self.id
        )

    @property
    def written(self) -> int:
        """The bytes that the guest has written since its start."""
        return int(self.domain.blockStats('vda')[3])

    def freeze_and_thaw(self) -> float:
        """The seconds that the agent takes to freeze and to thaw."""
        began = time.monotonic()
        try:
            self.domain.fsFreeze()
        finally:
            self.domain.fsThaw()
        return time.monotonic() - began

    def ask_agent(self, command: str, **arguments: Any) -> Any:
        request = json.dumps({'execute': command, 'arguments': arguments})
        answer = libvirt_qemu.qemuAgentCommand(
            self.domain, request, _AGENT_TIMEOUT, 0
        )
        return json.loads(answer)['return']

    def run(self, script: str) -> None:
        """Have the guest run a script, and wait for its end.

        :raises BenchError: the script fails
        """
        ran = self.ask_agent('guest-exec', path='/bin/sh', arg=['-c', script])
        status: dict[str, Any] = {}

        def is_ended() -> bool:
            status.update(self.ask_agent('guest-exec-status', pid=ran['pid']))
            return bool(status['exited'])

        wait_until(is_ended, f'{script!r} to end', _SCRIPT_TIMEOUT, 0.3)
        if status.get('exitcode'):
            raise BenchError(f'{script!r} ends with {status["exitcode"]}')

    def end_agent(self) -> None:
        """Have no agent from now on; the guest writes on."""
        self.ask_agent('guest-exec', path='/bin/sh', arg=['-c', _END_AGENT])
        wait_until(
            lambda: not self._agent_answers(),
            f'the agent of {self._name} to be gone',
            _AGENT_TIMEOUT,
            0.3,
        )

    def wait_until_settled(self) -> None:
        """Wait until the disk grows by nothing but the records.

        The journal of the file system takes its space little by little, and
        later measurements would be larger.
        """
        size = 0

        def settled() -> bool:
            nonlocal size
            before, size = size, self.disk.stat().st_blocks * _BLOCK
            return size - before < _SETTLED

        wait_until(
            settled,
            f'the disk of {self._name} to settle',
            _BOOT_TIMEOUT,
            interval=_SETTLE_INTERVAL,
        )

    def wait_for_no_task(self) -> None:
        wait_until(
            lambda: not self._admin.compute.get_server(self.id).task_state,
            f'the end of the task of {self._name}',
            _BOOT_TIMEOUT,
            0.1,
        )

    @property
    def _made(self) -> Server:
        if self._server is None:
            raise BenchError(f'{self._name} was not made')
        return self._server

    def _boot(self, flavor: str) -> None:
        compute = self._demo.compute
        self._server = compute.create_server(
            name=self._name,
            flavor_id=flavor,
            networks='none',
            **self._source,
        )
        compute.wait_for_server(self._server, interval=0.3, wait=_BOOT_TIMEOUT)

    @property
    def _source(self) -> dict[str, Any]:
        """The source of the server, as Nova's API takes it."""
        if not self._shape.volumes:
            return {'image_id': _image(self._demo, IMAGE)}
        return {
            'image_id': '',
            'block_device_mapping': volumes_to_boot_from(
                _image(self._demo, RAW_IMAGE), self._shape.volumes - 1
            ),
        }

    def _change(self, action: Callable[[str], object], status: str) -> None:
        action(self.id)

        def reached() -> bool:
            found = self._admin.compute.get_server(self.id)
            return found.status == status and not found.task_state

        wait_until(reached, f'{self._name} to be {status}', _BOOT_TIMEOUT, 0.3)

    def _wait_for_agent(self) -> None:
        wait_until(
            self._agent_answers,
            f'the agent of {self._name}',
            _BOOT_TIMEOUT,
            0.3,
        )

    def _agent_answers(self) -> bool:
        try:
            self.ask_agent('guest-ping')
        except libvirt.libvirtError:
            return False
        return True

    def _attach_channel(self) -> Path:
        """Attach a channel, which Nova does not know of and does not mind."""
        socket = check_socket_path(self._cloud.directory / self._name)
        self.domain.attachDeviceFlags(
            _CHANNEL.format(path=socket), libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        return socket

    def _delete(self) -> None:
        if self._server is None:
            return
        volumes = self.volumes
        with contextlib.suppress(sdk_exceptions.NotFoundException):
            compute = self._admin.compute
            compute.delete_server(self.id, force=True)
            compute.wait_for_delete(
                compute.get_server(self.id),
                interval=0.3,
                wait=_DELETE_TIMEOUT,
            )
        # Nova does not wait for volumes.
        wait_until(
            lambda: not any(map(self._find_volume, volumes)),
            f'the volumes of {self._name} to be gone',
            _DELETE_TIMEOUT,
            0.3,
        )

    def _find_volume(self, volume: str) -> object:
        # A type of the SDK that may be a proxy of version 2, which Cinder
        # lacks.
        cinder: Any = self._demo.block_storage
        return cinder.find_volume(volume)


def _image(connection: Connection, name: str) -> str:
    """The id of an image that every project of the cloud can use."""
    found: str = connection.image.find_image(name, ignore_missing=False).id
    return found
