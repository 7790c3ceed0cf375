# SPDX-License-Identifier: Apache-2.0
"""libvirt with QEMU, as far as a snapshot can tell.

It stands at the boundary of ``hypervisor/`` and has the state that a snapshot
changes. What it refuses, it refuses with the code and the words of libvirt
9.0.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import json
import os
import pathlib
import stat
import threading
from collections.abc import Callable
from typing import Any
from typing import NoReturn
from xml.etree import ElementTree

import libvirt

from tests.faults import libvirt_error
from tests.unit import documents

NAME_OF_AGENT = 'org.qemu.guest_agent.0'

MIB = 1 << 20

#: Why an agent since QEMU 6.1 has a command disabled.
FROZEN = ': the agent is in frozen state'

#: The states of an active domain of which libvirt asks no agent.
STANDS_STILL = (
    libvirt.VIR_DOMAIN_SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED,
)


class Agent(enum.Enum):
    """The behaviour of the guest agent."""

    ANSWERS = 'answers'
    #: The agent takes every command and answers none.
    HANGS = 'hangs'
    ABSENT = 'absent'
    #: The agent answers, but libvirt has a dead connection to it.
    CUT_OFF = 'cut off'
    #: The agent answers, but libvirt has not heard of it.
    UNHEARD = 'unheard'


#: The agents for which libvirt reports a disconnected channel.
_DISCONNECTED = (Agent.ABSENT, Agent.UNHEARD)


@dataclasses.dataclass
class Job:
    """A block job on one disk.

    :ivar polls: how often it was looked at
    :ivar bandwidth: MiB a second; 0 is no limit
    """

    target: str
    kind: int = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
    polls: int = 0
    ready: bool = False
    bandwidth: int = 0


class Machine:
    """The hypervisor's view of one domain; handles come and go.

    The attributes in the first part are for a test to set.

    :ivar chains: the images beneath a disk, by its target
    :ivar refusals: how often a call is still to be refused, by its name
    :ivar polls_until_ready: how often a copy is looked at before it is ready
    :ivar job_dies_at: the poll at which a copy fails, if it does
    :ivar job_end: what the event says when a copy is aborted; None for an
        event that never comes
    :ivar backup_result: what libvirt says of a backup job that is aborted
    :ivar backup_end_is_held: a backup job does not end before this is set
    :ivar is_migrating: a job runs that is no backup
    :ivar has_lost_job: libvirtd was killed while it began a backup job
    :ivar names_taken: how many nodes QEMU has of which libvirt knows nothing
    :ivar last_words: how often QEMU is still asked for its job after it has
        gone, before libvirt has noticed that it has
    :ivar save_is_held: a managed save waits for this, and is aborted if it
        is not set
    :ivar releases: how often the guest is looked at before it has let a
        device go; None for never
    :ivar disabled: the commands that the agent must not execute; since its
        first freeze it says of them too that it is frozen
    :ivar says_why: an agent before QEMU 6.1 does not say that a command is
        disabled because file systems are frozen
    :ivar file_systems: how many the agent can freeze
    :ivar freeze_is_late: a freeze is reported to have failed before it has
        its effect
    :ivar pause_is_held: a pause does not return before this is set
    :ivar reason: of its state, as libvirt has it
    :ivar shuts_down_after: how often its state is read before it has stopped
    :ivar bitmaps: the bytes that have changed by each bitmap, by the target of
        its disk and its name; None for a bitmap that is inconsistent
    :ivar checkpoints: what libvirt has a record of, by the name
    """

    def __init__(self, connection: FakeConnection, config: str) -> None:
        self.chains: dict[str, list[tuple[str, str]]] = {}
        self.agent = Agent.ANSWERS
        self.refusals: collections.Counter[str] = collections.Counter()
        self.polls_until_ready = 2
        self.job_dies_at: int | None = None
        self.job_end: int | None = libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
        self.backup_result: dict[str, Any] = {
            'type': libvirt.VIR_DOMAIN_JOB_COMPLETED,
            'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP,
            'success': True,
            'errmsg': 'Operation canceled',
        }
        self.backup_end_is_held: threading.Event | None = None
        self.is_migrating = False
        self.has_lost_job = False
        self.names_taken = 0
        self.last_words = 0
        self.save_is_held: threading.Event | None = None
        self.releases: int | None = 2
        self.disabled: set[str] = set()
        self.says_why = True
        self.disable_reason = ''
        self.file_systems = 1
        self.freeze_fails = False
        self.freeze_is_late = False
        self.pause_is_held: threading.Event | None = None
        self.reason = 0
        self.shuts_down_after: int | None = None
        self.bitmaps: dict[str, dict[str, int | None]] = {}
        self.checkpoints: dict[str, str] = {}

        root = ElementTree.fromstring(config)
        self.connection = connection
        self.name = root.findtext('name', '')
        self.uuid = root.findtext('uuid', '')
        self.config: str | None = config
        self.autostart = False
        self.live: ElementTree.Element | None = None
        self.state: int = libvirt.VIR_DOMAIN_SHUTOFF
        self.saved: Machine.Memory | None = None
        self.nvram = True
        self.tpm = True
        self.agent_timeout: int = (
            libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
        )
        self.frozen = False
        self.jobs: dict[str, Job] = {}
        self.backup: ElementTree.Element | None = None
        self.completed: dict[str, Any] = {}
        self.leaving: dict[str, int] = {}
        self.save_is_aborted = threading.Event()

    @dataclasses.dataclass
    class Memory:
        """The memory of a guest, in a managed save."""

        state: int
        frozen: bool
        live: ElementTree.Element

    @property
    def active(self) -> bool:
        return self.live is not None

    @property
    def gone(self) -> bool:
        return self.config is None and not self.active

    def start(self, state: int = libvirt.VIR_DOMAIN_RUNNING) -> None:
        """Power it on."""
        assert self.config is not None
        self._power_on(ElementTree.fromstring(self.config))
        self.state = state

    def stop(self) -> None:
        """Pull its plug. A transient domain is gone then."""
        self.live = None
        self.state = libvirt.VIR_DOMAIN_SHUTOFF
        self.frozen = False
        self.jobs.clear()
        self.leaving.clear()
        if self.backup is not None:
            # The socket of a QEMU that has died stays.
            self._end_backup(
                {'type': libvirt.VIR_DOMAIN_JOB_CANCELLED, 'success': False}
            )

    def fail_to_write(self) -> None:
        """A disk has no room for what the guest writes: QEMU stops it."""
        self.state = libvirt.VIR_DOMAIN_PAUSED
        self.reason = libvirt.VIR_DOMAIN_PAUSED_IOERROR

    def vanish(self) -> None:
        """Have the owner destroy and undefine the domain."""
        self.stop()
        self.config = None

    def name_node(self) -> None:
        """Add a node to QEMU, by the next name."""
        if self.names_taken:
            self.names_taken -= 1
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                "internal error: unable to execute QEMU command 'blockdev-add'"
                ": Duplicate nodes with node-name='libvirt-3-storage'",
            )

    def begin_backup(self, job: ElementTree.Element) -> None:
        """Have a backup job that is under way."""
        self.backup = job
        socket, scratch = self._socket_of(job), self._scratch_of(job)
        if socket is not None:
            os.mknod(socket, stat.S_IFSOCK | 0o600)
        if scratch is not None:
            # The file may have been made before.
            pathlib.Path(scratch).touch()
        disk = job.find('disks/disk[@backup="yes"]')
        if disk is not None:
            target = disk.get('name', '')
            self.jobs[target] = Job(
                target, libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP
            )

    def see_bitmap(self, target: str, name: str) -> None:
        """See that a bitmap is right."""
        if self.bitmaps.get(target, {}).get(name) is None:
            raise libvirt_error(
                libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT,
                'checkpoint inconsistent: missing or broken bitmap '
                f"'{name}' for disk '{target}'",
            )

    def begin_bitmap(self, checkpoint: ElementTree.Element) -> None:
        """Begin a bitmap, with its checkpoint."""
        name, disk = (
            checkpoint.findtext('name', ''),
            checkpoint.find('disks/disk'),
        )
        assert disk is not None
        target = disk.get('name', '')
        element = self.disk(target)
        assert element is not None
        driver = element.find('driver')
        assert driver is not None
        if driver.get('type') != 'qcow2':
            raise libvirt_error(
                libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                f'unsupported configuration: checkpoint for disk {target} '
                f'unsupported for storage type {driver.get("type")}',
            )
        bitmaps = self.bitmaps.setdefault(target, {})
        if name in bitmaps:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                "internal error: unable to execute QEMU command 'transaction':"
                f' Bitmap already exists: {name}',
            )
        bitmaps[name] = 0
        self.checkpoints[name] = target

    def abort_backup(self) -> None:
        """End the job as ``virsh domjobabort`` does."""
        assert self.backup is not None
        socket = self._socket_of(self.backup)
        self._end_backup(self.backup_result)
        if socket is not None:
            pathlib.Path(socket).unlink(missing_ok=True)

    def _end_backup(self, result: dict[str, Any]) -> None:
        assert self.backup is not None
        scratch = self._scratch_of(self.backup)
        if scratch is not None:
            pathlib.Path(scratch).unlink(missing_ok=True)
        self.backup = None
        self.jobs.clear()
        self.completed = result

    @staticmethod
    def _socket_of(job: ElementTree.Element) -> str | None:
        server = job.find('server')
        return None if server is None else server.get('socket')

    @staticmethod
    def _scratch_of(job: ElementTree.Element) -> str | None:
        scratch = job.find('disks/disk/scratch')
        return None if scratch is None else scratch.get('file')

    def xml(self, flags: int) -> str:
        if flags & libvirt.VIR_DOMAIN_XML_INACTIVE or self.live is None:
            text = self.config or self._live_xml()
        else:
            self._let_devices_go()
            text = self._live_xml()
        if not flags & libvirt.VIR_DOMAIN_XML_SECURE:
            text = documents.without_secrets(text)
        # libvirt has its own hand.
        return text.replace('"', "'").replace(' />', '/>')

    def disk(self, target: str) -> ElementTree.Element | None:
        if self.live is None:
            return None
        return next(
            (
                disk
                for disk in self.live.iterfind('devices/disk')
                if disk.find(f"target[@dev='{target}']") is not None
            ),
            None,
        )

    def host_devices(self) -> list[ElementTree.Element]:
        """The devices that are passed through, USB devices included."""
        if self.live is None:
            return []
        return [
            device
            for device in self.live.iterfind('devices/*')
            if _prefix(device) == 'hostdev'
        ]

    def add_device(self, device: ElementTree.Element) -> None:
        """Plug a device in; libvirt alone names it, whatever its XML says."""
        assert self.live is not None
        for old in device.findall('alias'):
            device.remove(old)
        prefix = _prefix(device)
        taken = [
            int(alias.get('name', '').removeprefix(prefix))
            for alias in self.live.iterfind('devices/*/alias')
            if alias.get('name', '').removeprefix(prefix).isdecimal()
        ]
        alias = f'{prefix}{max(taken, default=-1) + 1}'
        ElementTree.SubElement(device, 'alias', name=alias)
        _devices(self.live).append(device)

    def remove_device(self, alias: str) -> None:
        assert self.live is not None
        for device in self.live.findall('devices/*'):
            if device.find(f"alias[@name='{alias}']") is not None:
                _devices(self.live).remove(device)

    def keep_silent(self) -> NoReturn:
        """The agent does not answer, for as long as libvirt waits."""
        assert self.agent_timeout > 0, 'this call would never return'
        _agent_is_silent(
            "guest agent didn't respond to command within "
            f"'{self.agent_timeout}' seconds"
        )

    def end_job(self, target: str, status: int | None) -> None:
        """A block job ends, with its event."""
        del self.jobs[target]
        disk = self.disk(target)
        assert disk is not None
        disk.remove(disk.find('mirror'))  # type: ignore[arg-type]
        if status is not None:
            self.connection.tell(self, target, status)

    def _live_xml(self) -> str:
        assert self.live is not None
        return ElementTree.tostring(self.live, encoding='unicode')

    def _power_on(self, root: ElementTree.Element) -> None:
        root.set('id', '7')
        devices = _devices(root)
        self.live = root
        for device in list(devices):
            if device.tag == 'emulator':
                continue
            devices.remove(device)
            self.add_device(device)
        for disk in root.iterfind('devices/disk[@device="disk"]'):
            target = disk.find('target')
            assert target is not None
            chain = self.chains.get(target.get('dev', ''), [])
            if disk.find("driver[@type='raw']") is not None:
                chain = []
            disk.insert(2, documents.backing_store(chain))
        for target in root.iterfind(
            f"devices/channel/target[@name='{NAME_OF_AGENT}']"
        ):
            self._tell_state(target)

    def _tell_state(self, target: ElementTree.Element) -> None:
        unknown = self.agent in _DISCONNECTED
        target.set('state', 'disconnected' if unknown else 'connected')

    def cut_off_agent(self, agent: Agent) -> None:
        """Have libvirt miss events of the channel."""
        assert self.live is not None
        self.agent = agent
        for target in self.live.iterfind('devices/channel/target'):
            self._tell_state(target)

    def add_channel(self, channel: ElementTree.Element) -> None:
        """Plug the channel in, with the agent at its other end."""
        if self.agent is not Agent.ABSENT:
            self.agent = Agent.ANSWERS
        for target in channel.iterfind('target'):
            self._tell_state(target)
        self.add_device(channel)

    def _let_devices_go(self) -> None:
        if self.releases is None:
            return
        for alias in list(self.leaving):
            self.leaving[alias] += 1
            if self.leaving[alias] > self.releases:
                del self.leaving[alias]
                self.remove_device(alias)


class FakeSecret:
    """A ``virSecret``."""

    def value(self) -> bytes:
        return b's3cret'


class FakeStream:
    """A ``virStream`` to the channel of an agent.

    :ivar answers: somebody does, at its other end
    """

    answers = False

    def __init__(self) -> None:
        self._is_asked = False

    def send(self, data: bytes) -> int:
        assert json.loads(data)['execute'] == 'guest-sync'
        self._is_asked = True
        return len(data)

    def recv(self, count: int) -> bytes | int:
        return b'{' if self._is_asked and self.answers else -2

    def abort(self) -> int:
        return 0


class FakeConnection:
    """A ``virConnect``.

    :ivar alive: libvirtd has not died since
    """

    def __init__(self, version: int = 9_000_000) -> None:
        self.version = version
        self.qemu_version = 7_002_022
        #: The user of QEMU, unless a domain has another one.
        self.qemu_label = f'+{os.geteuid()}:+{os.getegid()}'
        self.machines: dict[str, Machine] = {}
        self.listeners: dict[int, tuple[str, Callable[..., Any], Any]] = {}
        self.closed = False
        self.alive = True
        self._next_listener = 0

    # For a test

    def add(self, config: str) -> Machine:
        """Have a domain that is shut off."""
        machine = Machine(self, config)
        self.machines[machine.uuid] = machine
        return machine

    def tell(self, machine: Machine, target: str, status: int) -> None:
        """Send the event of a block job."""
        for uuid, callback, opaque in list(self.listeners.values()):
            if uuid == machine.uuid:
                callback(
                    self,
                    FakeDomain(machine),
                    target,
                    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY,
                    status,
                    opaque,
                )

    def restart(self) -> FakeConnection:
        """Have libvirtd die, and return a connection to the next one."""
        self.alive = False
        other = FakeConnection(self.version)
        other.machines = self.machines
        return other

    # As libvirt

    def isAlive(self) -> int:
        return int(self.alive)

    def close(self) -> int:
        self.closed = True
        return 0

    def getLibVersion(self) -> int:
        return self.version

    def getVersion(self) -> int:
        return self.qemu_version

    def getCapabilities(self) -> str:
        return (
            '<capabilities><host><secmodel><model>none</model></secmodel>'
            '<secmodel><model>dac</model><doi>0</doi>'
            f"<baselabel type='kvm'>{self.qemu_label}</baselabel>"
            '</secmodel></host></capabilities>'
        )

    def lookupByName(self, name: str) -> FakeDomain:
        for machine in self.machines.values():
            if machine.name == name and not machine.gone:
                return FakeDomain(machine, self)
        _no_domain(f"no domain with matching name '{name}'")

    def getURI(self) -> str:
        # A URI of no other process, like everything here.
        return 'qemu:///embed?root=/nowhere'

    def listAllDomains(self, flags: int) -> list[FakeDomain]:
        assert not flags, 'all are wanted'
        return [
            FakeDomain(machine, self)
            for machine in self.machines.values()
            if not machine.gone
        ]

    def lookupByUUIDString(self, uuid: str) -> FakeDomain:
        if len(uuid.replace('-', '')) != 32:
            raise libvirt_error(libvirt.VIR_ERR_INVALID_ARG, 'Invalid UUID')
        machine = self.machines.get(uuid)
        if machine is None or machine.gone:
            _no_domain(f"no domain with matching uuid '{uuid}'")
        return FakeDomain(machine, self)

    def newStream(self, flags: int) -> FakeStream:
        assert flags == libvirt.VIR_STREAM_NONBLOCK
        return FakeStream()

    def secretLookupByUUIDString(self, uuid: str) -> FakeSecret:
        return FakeSecret()

    def defineXML(self, xml: str) -> FakeDomain:
        root = ElementTree.fromstring(xml)
        name, uuid = root.findtext('name', ''), root.findtext('uuid', '')
        machine = self.machines.get(uuid)
        for other in self.machines.values():
            if other.name == name and other.uuid != uuid and not other.gone:
                raise libvirt_error(
                    libvirt.VIR_ERR_OPERATION_FAILED,
                    f"operation failed: domain '{name}' already exists with "
                    f'uuid {other.uuid}',
                )
        if machine is None:
            machine = self.add(xml)
        machine.config = xml
        return FakeDomain(machine, self)

    def domainEventRegisterAny(
        self,
        domain: FakeDomain,
        event: int,
        callback: Callable[..., Any],
        opaque: Any,
    ) -> int:
        assert isinstance(domain, FakeDomain), 'libvirt wants its own object'
        assert event == libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2
        self._next_listener += 1
        self.listeners[self._next_listener] = (
            domain.UUIDString(),
            callback,
            opaque,
        )
        return self._next_listener

    def domainEventDeregisterAny(self, listener: int) -> None:
        if self.listeners.pop(listener, None) is None:
            raise libvirt_error(
                libvirt.VIR_ERR_INVALID_ARG,
                f'invalid argument: callback ID {listener} is not registered',
            )


class FakeDomain:
    """A ``virDomain``."""

    def __init__(
        self, machine: Machine, connection: FakeConnection | None = None
    ) -> None:
        self._machine = machine
        self._connection = connection or machine.connection

    # Identity

    def name(self) -> str:
        return self._machine.name

    def UUIDString(self) -> str:
        return self._machine.uuid

    def connect(self) -> FakeConnection:
        return self._connection

    def state(self) -> list[int]:
        machine = self._known('state')
        if machine.shuts_down_after is not None:
            machine.shuts_down_after -= 1
            if machine.shuts_down_after < 0:
                machine.shuts_down_after = None
                machine.stop()
                return self.state()
        return [machine.state, machine.reason]

    def isActive(self) -> int:
        return int(self._known('isActive').active)

    def isPersistent(self) -> int:
        return int(self._known('isPersistent').config is not None)

    def XMLDesc(self, flags: int = 0) -> str:
        return self._known('XMLDesc').xml(flags)

    def hasManagedSaveImage(self) -> int:
        return int(self._known('hasManagedSaveImage').saved is not None)

    def managedSaveGetXMLDesc(self, flags: int = 0) -> str:
        saved = self._known('managedSaveGetXMLDesc').saved
        if saved is None:
            _invalid('domain does not have managed save image')
        root = copy.deepcopy(saved.live)
        root.attrib.pop('id', None)
        return ElementTree.tostring(root, encoding='unicode')

    def managedSaveRemove(self, flags: int = 0) -> int:
        self._known('managedSaveRemove').saved = None
        return 0

    # Definition

    def autostart(self) -> int:
        return int(self._known('autostart').autostart)

    def setAutostart(self, autostart: bool) -> int:
        machine = self._known('setAutostart')
        if machine.config is None:
            _invalid('cannot set autostart for transient domain')
        machine.autostart = autostart
        return 0

    def undefineFlags(self, flags: int) -> int:
        machine = self._known('undefineFlags')
        if machine.config is None:
            _invalid('cannot undefine transient domain')
        if machine.saved:
            _invalid(
                'Refusing to undefine while domain managed save image exists'
            )
        if machine.checkpoints:
            _invalid(
                'cannot delete inactive domain with '
                f'{len(machine.checkpoints)} checkpoints'
            )
        if not flags & (
            libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        ):
            _invalid('cannot undefine domain with nvram')
        if flags & libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM:
            if machine.connection.version < 8_009_000:
                raise libvirt_error(
                    libvirt.VIR_ERR_INVALID_ARG,
                    'unsupported flags (0x40) in function '
                    'qemuDomainUndefineFlags',
                )
        else:
            machine.tpm = False
        if flags & libvirt.VIR_DOMAIN_UNDEFINE_NVRAM:
            machine.nvram = False
        machine.config = None
        machine.autostart = False
        return 0

    # Block jobs

    def blockInfo(self, target: str) -> list[int]:
        machine = self._known('blockInfo')
        text = machine.xml(0)
        if f'dev="{target}"' not in text.replace("'", '"'):
            _bad_argument(f'invalid path {target} not assigned to domain')
        return [2048 * MIB, 3 * MIB, 3 * MIB]

    def blockJobInfo(self, target: str) -> dict[str, int]:
        machine = self._running('blockJobInfo')
        disk = machine.disk(target)
        if disk is None:
            _bad_argument(f"disk '{target}' not found in domain")
        job = machine.jobs.get(target)
        if job is None:
            return {}
        if job.kind == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
            return {'type': job.kind, 'bandwidth': 0, 'cur': 0, 'end': 1}
        job.polls += 1
        if job.polls == machine.job_dies_at:
            machine.end_job(target, libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED)
            return {}
        if job.polls >= machine.polls_until_ready and not job.ready:
            job.ready = True
            mirror = disk.find('mirror')
            if mirror is not None:
                mirror.set('ready', 'yes')
            machine.connection.tell(
                machine, target, libvirt.VIR_DOMAIN_BLOCK_JOB_READY
            )
        done = 1 if job.ready else 0
        return {'type': job.kind, 'bandwidth': 0, 'cur': done, 'end': 1}

    def blockRebase(
        self, target: str, path: str, bandwidth: int, flags: int
    ) -> int:
        machine = self._running('blockRebase')
        if machine.config is not None:
            _invalid('domain is not transient')
        if target in machine.jobs:
            raise libvirt_error(
                libvirt.VIR_ERR_BLOCK_COPY_ACTIVE,
                f"block copy still active: disk '{target}' already in active "
                'block job',
            )
        machine.name_node()
        if flags & libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT:
            assert os.path.exists(path), f'{path} is to be there already'
        self.begin_copy(target, path).bandwidth = bandwidth
        return 0

    def begin_copy(self, target: str, path: str | None) -> Job:
        """Have a copy that is under way.

        :param path: None for a job that has no mirror
        """
        machine = self._machine
        disk = machine.disk(target)
        assert disk is not None
        job = machine.jobs[target] = Job(target)
        if path is not None:
            mirror = ElementTree.SubElement(disk, 'mirror', type='file')
            mirror.set('job', 'copy')
            ElementTree.SubElement(mirror, 'format', type='qcow2')
            ElementTree.SubElement(mirror, 'source', file=path)
        else:
            job.kind = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL
        return job

    def blockJobAbort(self, target: str, flags: int) -> int:
        machine = self._monitored('blockJobAbort')
        if target not in machine.jobs:
            _bad_argument(f'disk {target} does not have an active block job')
        if machine.backup is not None:
            if machine.backup_end_is_held is not None:
                # Wait, as for a QEMU that is stopped.
                machine.backup_end_is_held.wait(30)
            machine.abort_backup()
            return 0
        machine.end_job(target, machine.job_end)
        return 0

    # Backup jobs

    def backupBegin(
        self, xml: str, checkpoint: str | None, flags: int = 0
    ) -> int:
        machine = self._known('backupBegin')
        if not machine.active:
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
                'Operation not supported: cannot perform disk backup for '
                'inactive domain',
            )
        if (
            machine.is_migrating
            or machine.backup is not None
            or machine.has_lost_job
        ):
            _locked()
        machine.name_node()
        job = ElementTree.fromstring(xml)
        disk = job.find('disks/disk')
        assert disk is not None
        assert job.get('mode') == 'pull'
        assert machine.disk(disk.get('name', '')) is not None
        scratch = disk.find('scratch')
        assert scratch is not None
        reused = flags & libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
        assert bool(reused) is os.path.exists(scratch.get('file', ''))
        base = disk.get('incremental')
        if base is not None:
            assert disk.get('backupmode') == 'incremental'
            if base not in machine.checkpoints:
                raise libvirt_error(
                    libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT,
                    f"Checkpoint '{base}' for incremental backup of disk "
                    f"'{disk.get('name')}' not found",
                )
            machine.see_bitmap(disk.get('name', ''), base)
        if checkpoint is not None:
            machine.begin_bitmap(ElementTree.fromstring(checkpoint))
        machine.begin_backup(job)
        return 0

    def backupGetXMLDesc(self, flags: int = 0) -> str:
        machine = self._known('backupGetXMLDesc')
        if machine.backup is None:
            raise libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
                'Domain backup job id not found: no domain backup job present',
            )
        return ElementTree.tostring(machine.backup, encoding='unicode')

    def jobInfo(self) -> list[int]:
        machine = self._monitored('jobInfo')
        if machine.has_lost_job:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: backup job data missing',
            )
        busy = machine.is_migrating or machine.backup is not None
        kind = (
            libvirt.VIR_DOMAIN_JOB_UNBOUNDED
            if busy
            else libvirt.VIR_DOMAIN_JOB_NONE
        )
        return [kind, *([0] * 11)]

    def jobStats(self, flags: int = 0) -> dict[str, Any]:
        machine = self._known('jobStats')
        assert flags == libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
        # libvirt tells it once.
        completed, machine.completed = machine.completed, {'type': 0}
        return completed

    # Checkpoints

    def checkpointCreateXML(self, xml: str, flags: int) -> FakeCheckpoint:
        machine = self._known('checkpointCreateXML')
        root = ElementTree.fromstring(xml)
        assert flags & libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
        assert root.find('creationTime') is not None
        name, disk = root.findtext('name', ''), root.find('disks/disk')
        assert disk is not None
        target = disk.get('name', '')
        if flags & libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE:
            if not machine.active:
                _invalid('domain is not running')
            machine.see_bitmap(target, name)
        machine.checkpoints[name] = target
        return FakeCheckpoint(self, name)

    def listAllCheckpoints(self, flags: int) -> list[FakeCheckpoint]:
        assert not flags
        machine = self._known('listAllCheckpoints')
        return [FakeCheckpoint(self, name) for name in machine.checkpoints]

    # The guest agent

    def agentSetResponseTimeout(self, seconds: int, flags: int) -> int:
        self._known('agentSetResponseTimeout').agent_timeout = seconds
        return 0

    def openChannel(self, name: str, stream: FakeStream, flags: int) -> int:
        assert name == NAME_OF_AGENT
        stream.answers = self._running('openChannel').agent is Agent.UNHEARD
        return 0

    def getTime(self) -> dict[str, int]:
        self._executed('getTime', 'guest-get-time')
        return {'seconds': 0, 'nseconds': 0}

    def fsInfo(self) -> list[tuple[Any, ...]]:
        machine = self._executed('fsInfo', 'guest-get-fsinfo')
        return [
            (f'/{number}', f'vda{number}', 'ext4', ['vda'])
            for number in range(machine.file_systems)
        ]

    def fsFreeze(self) -> int:
        machine = self._executed('fsFreeze', 'guest-fsfreeze-freeze')
        if machine.freeze_fails:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: unable to execute QEMU agent command '
                "'guest-fsfreeze-freeze': failed to freeze /: Input/output "
                'error',
            )
        machine.frozen = True
        machine.disable_reason = FROZEN if machine.says_why else ''
        if machine.freeze_is_late:
            machine.keep_silent()
        return machine.file_systems

    def fsThaw(self) -> int:
        machine = self._asked('fsThaw')
        if 'guest-fsfreeze-thaw' in machine.disabled:
            _disabled('guest-fsfreeze-thaw')
        thawed = machine.file_systems if machine.frozen else 0
        machine.frozen = False
        return thawed

    # Suspending

    def managedSave(self, flags: int) -> int:
        machine = self._running('managedSave')
        if machine.config is None:
            _invalid('cannot do managed save for transient domain')
        if machine.has_lost_job:
            _locked()
        if any(d.get('type') != 'usb' for d in machine.host_devices()):
            _invalid('Domain has assigned non-USB host devices')
        held = machine.save_is_held
        if held is not None:
            machine.save_is_aborted.wait(30)
            if not held.is_set():
                raise libvirt_error(
                    libvirt.VIR_ERR_OPERATION_ABORTED,
                    "operation aborted: job 'domain save' canceled by client",
                )
        assert machine.live is not None
        ran = machine.state == libvirt.VIR_DOMAIN_RUNNING
        machine.saved = Machine.Memory(
            # libvirt knows of no other state in a managed save.
            libvirt.VIR_DOMAIN_RUNNING if ran else libvirt.VIR_DOMAIN_PAUSED,
            machine.frozen,
            machine.live,
        )
        machine.stop()
        return 0

    def abortJob(self) -> int:
        machine = self._monitored('abortJob')
        if machine.backup is not None:
            machine.abort_backup()
            return 0
        if machine.save_is_held is None:
            _invalid('no job is active on the domain')
        machine.save_is_aborted.set()
        return 0

    def createWithFlags(self, flags: int) -> int:
        machine = self._known('createWithFlags')
        if machine.active:
            _invalid('domain is already running')
        machine.start()
        if machine.saved:
            machine.state = machine.saved.state
            machine.frozen = machine.saved.frozen
            # The saved guest had given these devices up.
            machine.live = machine.saved.live
            machine.saved = None
        if flags & libvirt.VIR_DOMAIN_START_PAUSED:
            machine.state = libvirt.VIR_DOMAIN_PAUSED
        return 0

    def suspend(self) -> int:
        machine = self._running('suspend')
        if machine.state == libvirt.VIR_DOMAIN_PMSUSPENDED:
            _invalid('domain is pmsuspended')
        if machine.state != libvirt.VIR_DOMAIN_PAUSED:
            machine.state = libvirt.VIR_DOMAIN_PAUSED
            machine.reason = libvirt.VIR_DOMAIN_PAUSED_USER
        if machine.pause_is_held is not None:
            # Wait, as for a QEMU whose storage does not answer.
            machine.pause_is_held.wait(30)
        return 0

    def resume(self) -> int:
        machine = self._running('resume')
        if machine.state == libvirt.VIR_DOMAIN_PMSUSPENDED:
            _invalid('domain is pmsuspended')
        if machine.state == libvirt.VIR_DOMAIN_RUNNING:
            _invalid('domain is already running')
        machine.state = libvirt.VIR_DOMAIN_RUNNING
        machine.reason = 0
        return 0

    # Devices of the host

    def detachDeviceAlias(self, alias: str, flags: int) -> int:
        machine = self._running('detachDeviceAlias')
        assert machine.live is not None
        if machine.live.find(f"devices/*/alias[@name='{alias}']") is None:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                f'internal error: no device found with alias {alias}',
            )
        machine.leaving[alias] = 0
        return 0

    def attachDeviceFlags(self, xml: str, flags: int) -> int:
        machine = self._running('attachDeviceFlags')
        device = ElementTree.fromstring(xml)
        if device.tag == 'channel':
            machine.add_channel(device)
            return 0
        source = _source(device)
        if source in [_source(other) for other in machine.host_devices()]:
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'Requested operation is not valid: PCI device is in use by '
                f'driver QEMU, domain {machine.name}',
            )
        machine.add_device(device)
        return 0

    # How calls begin

    def _known(self, call: str) -> Machine:
        machine = self._machine
        if not self._connection.alive:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: client socket is closed',
            )
        if machine.gone:
            _no_domain(
                f"no domain with matching uuid '{machine.uuid}' "
                f'({machine.name})'
            )
        if machine.refusals[call] > 0:
            machine.refusals[call] -= 1
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                'Timed out during operation: cannot acquire state change '
                'lock (held by agent=remoteDispatchDomainFsfreeze)',
            )
        return machine

    def _running(self, call: str) -> Machine:
        machine = self._known(call)
        if not machine.active:
            _invalid('domain is not running')
        return machine

    def _monitored(self, call: str) -> Machine:
        """A command reaches QEMU."""
        machine = self._running(call)
        if machine.last_words:
            machine.last_words -= 1
            if not machine.last_words:
                machine.stop()
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                "internal error: End of file from qemu monitor (vm='guest')",
            )
        return machine

    def _asked(self, call: str) -> Machine:
        """A command reaches the agent."""
        machine = self._running(call)
        if machine.agent in _DISCONNECTED:
            _agent_is_silent('QEMU guest agent is not connected')
        if machine.state in STANDS_STILL:
            _invalid('domain is not running')
        if machine.agent is Agent.CUT_OFF:
            _agent_is_silent('Guest agent disappeared while executing command')
        paused = machine.state == libvirt.VIR_DOMAIN_PAUSED
        if machine.agent is Agent.HANGS or paused:
            machine.keep_silent()
        return machine

    def _executed(self, call: str, command: str) -> Machine:
        """The agent executes a command that it refuses while frozen."""
        machine = self._asked(call)
        if machine.frozen:
            machine.disable_reason = FROZEN if machine.says_why else ''
        if machine.frozen or command in machine.disabled:
            _disabled(command, machine.disable_reason)
        return machine


class FakeCheckpoint:
    """A ``virDomainCheckpoint``."""

    def __init__(self, domain: FakeDomain, name: str) -> None:
        self._domain = domain
        self._name = name

    def getName(self) -> str:
        return self._name

    def getXMLDesc(self, flags: int) -> str:
        assert flags & libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE
        machine = self._domain._running('getXMLDesc')
        target = machine.checkpoints[self._name]
        return (
            f'<domaincheckpoint><name>{self._name}</name><disks>'
            f"<disk name='{target}' checkpoint='bitmap' "
            f"size='{machine.bitmaps[target][self._name]}'/>"
            "<disk name='vdz' checkpoint='no'/></disks></domaincheckpoint>"
        )

    def delete(self, flags: int) -> int:
        machine = self._domain._known('delete')
        if self._name not in machine.checkpoints:
            raise libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT,
                'Domain checkpoint not found: no domain checkpoint with '
                f"matching name '{self._name}'",
            )
        if not flags & libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY:
            self._remove_bitmap(machine)
        del machine.checkpoints[self._name]
        return 0

    def _remove_bitmap(self, machine: Machine) -> None:
        if not machine.active:
            _invalid('domain is not running')
        bitmaps = machine.bitmaps.get(machine.checkpoints[self._name], {})
        if self._name not in bitmaps:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                f"internal error: bitmap '{self._name}' not found in backing "
                "chain of 'vda'",
            )
        del bitmaps[self._name]


def _devices(root: ElementTree.Element) -> ElementTree.Element:
    devices = root.find('devices')
    assert devices is not None
    return devices


def _prefix(device: ElementTree.Element) -> str:
    """The prefix of the alias that libvirt gives to such a device."""
    if device.tag == 'hostdev' or device.get('type') == 'hostdev':
        return 'hostdev'
    return {'interface': 'net'}.get(device.tag, device.tag)


def _source(device: ElementTree.Element) -> str:
    source = device.find('source')
    assert source is not None
    return ElementTree.canonicalize(
        ElementTree.tostring(source, encoding='unicode'), strip_text=True
    )


def _no_domain(message: str) -> NoReturn:
    raise libvirt_error(
        libvirt.VIR_ERR_NO_DOMAIN, f'Domain not found: {message}'
    )


def _invalid(message: str) -> NoReturn:
    raise libvirt_error(
        libvirt.VIR_ERR_OPERATION_INVALID,
        f'Requested operation is not valid: {message}',
    )


def _locked() -> NoReturn:
    raise libvirt_error(
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        'Timed out during operation: cannot acquire state change lock',
    )


def _bad_argument(message: str) -> NoReturn:
    raise libvirt_error(
        libvirt.VIR_ERR_INVALID_ARG, f'invalid argument: {message}'
    )


def _agent_is_silent(message: str) -> NoReturn:
    raise libvirt_error(
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        f'Guest agent is not responding: {message}',
    )


def _disabled(command: str, reason: str = '') -> NoReturn:
    raise libvirt_error(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        'internal error: unable to execute QEMU agent command '
        f"'{command}': Command {command} has been disabled{reason}",
    )
