# SPDX-License-Identifier: Apache-2.0
"""A guest that notices every stall and every lost write."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Self

import libvirt
import libvirt_qemu

from lab.accelerator import domain_type
from lab.bounded import run
from lab.bounded import wait_until
from lab.directory import check_socket_path
from lab.disks import Layer
from lab.disks import discard_disk
from lab.disks import write_disk
from lab.domain_xml import Sockets
from lab.domain_xml import domain_xml
from lab.domain_xml import target_name
from lab.errors import LabError
from lab.errors import LabTimeout
from lab.hypervisor import Hypervisor
from lab.hypervisor import discard
from lab.options import GuestOptions
from lab.options import Shape
from lab.ticks import Ticks
from lab.witness import WitnessImage

# Emulated, on a busy machine; it is up after 5 to 12 s on an idle one.
_BOOT_TIMEOUT = 120.0
_SHUTDOWN_TIMEOUT = 60.0
_AGENT_TIMEOUT = 20.0
_STATE_TIMEOUT = 30.0

_SECOND_DISK_SIZE = '64M'
_OVERLAY_SEED = 3


class WitnessGuest:
    """A guest of the witness image; its owner if used in a ``with``.

    Its files are below the root directory of the hypervisor. Another object
    of the same hypervisor and options is the same guest, in whatever
    process. Only what needs libvirt opens the hypervisor: the ticks and the
    paths are there without it.

    :param image: None: that of the default sizes, built when it is needed
    :raises LabError: the path of the sockets is too long
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        options: GuestOptions | None = None,
        image: WitnessImage | None = None,
    ) -> None:
        self.hypervisor = hypervisor
        self.options = options or GuestOptions()
        self._image = image
        self.directory = hypervisor.guests / self.options.name
        self._sockets = Sockets(
            agent=check_socket_path(self.directory / 'agent.sock'),
            tick=check_socket_path(self.directory / 'tick.sock'),
        )
        self._ticks: Ticks | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.hypervisor, self.options, self._image)

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    # Life cycle

    def boot(self, timeout: float = _BOOT_TIMEOUT) -> None:
        """Start it and wait until it writes and its agent answers.

        :param timeout: seconds
        :raises LabTimeout: it does not come up
        """
        domain = self.hypervisor.domain(self.name)
        if domain is None and self._needs_disks():
            self._write_disks()
        if not self.options.persistent:
            self.hypervisor.connection.createXML(self._xml())
        else:
            if domain is None:
                domain = self.hypervisor.connection.defineXML(self._xml())
            domain.create()
        try:
            self.ticks.wait(1, timeout)
            if self.options.agent:
                wait_until(self.agent_answers, 'the guest agent', timeout)
        except LabTimeout as error:
            raise LabTimeout(
                f'{error}; the console of {self.name} ends with:\n'
                f'{self.console()[-2000:]}'
            ) from error

    def shutdown(self, timeout: float = _SHUTDOWN_TIMEOUT) -> None:
        """Press its power button and wait until it is off.

        :raises LabTimeout: it is still running after *timeout* seconds
        """
        self.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        wait_until(
            lambda: not self.running, f'{self.name} to shut down', timeout
        )

    def destroy(self) -> None:
        """Pull its plug."""
        self.domain.destroy()

    def discard(self) -> None:
        """Stop it, forget it in libvirt and remove its files."""
        if self._ticks is not None:
            self._ticks.close()
            self._ticks = None
        domain = self.hypervisor.domain(self.name)
        if domain is not None:
            discard(domain)
        discard_disk(self.options.shape, self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    # Properties

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def domain(self) -> libvirt.virDomain:
        """The domain of the guest.

        :raises LabError: libvirt knows none
        """
        domain = self.hypervisor.domain(self.name)
        if domain is None:
            raise LabError(f'libvirt does not know a domain {self.name}')
        return domain

    @property
    def running(self) -> bool:
        """Whether the guest has a QEMU process, be it paused."""
        domain = self.hypervisor.domain(self.name)
        return domain is not None and bool(domain.isActive())

    @property
    def paused(self) -> bool:
        return bool(self.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)

    @property
    def persistent(self) -> bool:
        return bool(self.domain.isPersistent())

    def definition(self) -> str:
        """The inactive definition with secrets, to compare it with itself."""
        return str(
            self.domain.XMLDesc(
                libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            )
        )

    # Data

    @property
    def image(self) -> WitnessImage:
        """The image it is made from, built now if it was not before."""
        if self._image is None:
            self._image = WitnessImage.build()
        return self._image

    @property
    def disk(self) -> Layer:
        """The active layer of its disk, as it was made."""
        active = self.directory / 'disk'
        is_raw = self.options.shape in (Shape.RAW, Shape.BLOCK)
        return Layer(
            active,
            'raw' if is_raw else 'qcow2',
            encrypted=self.options.shape is Shape.LUKS,
        )

    @property
    def second_disk(self) -> Layer:
        """The second disk of the guest, if there is one."""
        return Layer(self.directory / 'second', 'qcow2')

    @property
    def targets(self) -> list[str]:
        """The targets of its disks, such as ``['vda', 'vdb']``."""
        count = 2 if self.options.second_disk else 1
        return [target_name(self.options, index) for index in range(count)]

    @property
    def fills(self) -> dict[str, str]:
        """The SHA-256 of each fill on its file system, by file name."""
        fills: dict[str, str] = json.loads(self._fills_file.read_text())
        return fills

    def write_fill(self, size: int, timeout: float = 120.0) -> None:
        """Let it write the fill ``overlay`` into its active layer.

        :param size: MiB
        :param timeout: seconds
        :raises LabError: it has no agent, or the fill fails
        """
        self.agent_exec(
            f'witness fill {size} {_OVERLAY_SEED} >/data/overlay && sync',
            timeout=timeout,
        )
        digest = self.image.digest_of_fill(size, _OVERLAY_SEED)
        self._fills_file.write_text(
            json.dumps(self.fills | {'overlay': digest})
        )

    # Activity

    @property
    def ticks(self) -> Ticks:
        """The ticks of the guest, read since the first use of this property.

        They can be closed, and are read anew at the next use.
        """
        if self._ticks is None or self._ticks.closed:
            self._ticks = Ticks(self._sockets.tick)
        return self._ticks

    def still_counts(self, timeout: float = 10.0) -> None:
        """Wait until it has written some more records.

        :raises LabTimeout: it did not within *timeout* seconds
        """
        self.ticks.wait(5, timeout)

    def console(self) -> str:
        """The output of its serial console, of all its boots."""
        console = self._console_file
        return console.read_text(errors='replace') if console.exists() else ''

    # Agent

    def agent_command(
        self, command: str, timeout: float = _AGENT_TIMEOUT, **arguments: Any
    ) -> Any:
        """Run a command of the guest agent and return its result.

        :param timeout: seconds, rounded down
        :raises libvirt.libvirtError: no agent, no answer, or an error
        """
        request = {'execute': command, 'arguments': arguments}
        answer = libvirt_qemu.qemuAgentCommand(
            self.domain, json.dumps(request), int(timeout), 0
        )
        return json.loads(answer)['return']

    def agent_answers(self) -> bool:
        """Whether the guest agent answers within a second."""
        try:
            self.agent_command('guest-ping', timeout=1)
        except libvirt.libvirtError:
            return False
        return True

    def agent_exec(self, script: str, timeout: float = _AGENT_TIMEOUT) -> None:
        """Run a shell script in the guest, wait for its end.

        :param timeout: seconds
        :raises LabError: it failed
        :raises LabTimeout: it did not end in time
        """
        pid = self._agent_spawn(script)
        status: dict[str, Any] = {}

        def ended() -> bool:
            status.update(self.agent_command('guest-exec-status', pid=pid))
            return bool(status['exited'])

        wait_until(ended, f'the end of {script!r} in {self.name}', timeout)
        if status.get('exitcode') != 0:
            raise LabError(f'{script!r} in {self.name} failed: {status}')

    def frozen(self) -> bool:
        """Whether the agent has frozen the file systems."""
        return bool(self.agent_command('guest-fsfreeze-status') == 'frozen')

    # Faults

    def fail_freeze(self) -> None:
        """Let the next freeze fail."""
        self.agent_exec('touch /run/fail-freeze')

    def slow_freeze(self, seconds: float) -> None:
        """Let the next freeze take this long."""
        self.agent_exec(f'echo {seconds} >/run/slow-freeze')

    def hang_agent(self, seconds: float | None = None) -> None:
        """Stop the process of the agent, which then answers nothing.

        :param seconds: after which it goes on; None: never
        """
        stopped = f'witness: agent stopped at {time.monotonic()}'
        script = (
            # Delay the stop: the agent has to answer this request first.
            f'sleep 0.2; kill -STOP $(cat /run/qemu-ga.pid); '
            f'echo "{stopped}" >/dev/console'
        )
        if seconds is not None:
            script += f'; sleep {seconds}; kill -CONT $(cat /run/qemu-ga.pid)'
        self._agent_spawn(script)
        wait_until(
            lambda: stopped in self.console(),
            f'the agent of {self.name} to stop',
            _AGENT_TIMEOUT,
        )

    def agent_connected(self) -> bool:
        """Whether libvirt says that the agent is connected."""
        return "state='connected'" in next(
            line
            for line in self.domain.XMLDesc().splitlines()
            if 'org.qemu.guest_agent.0' in line and '<target' in line
        )

    def end_agent(self, again: str = '') -> None:
        """End the process of the agent, some time after this call.

        :param again: a shell script that runs then, in the background
        """
        self._agent_spawn(
            'setsid sh -c "sleep 0.5; kill $(cat /run/qemu-ga.pid); '
            f'{again or "true"}" </dev/null >/dev/null 2>&1 &'
        )

    def reboot_hard(self) -> None:
        """Let it reset itself, some time after this call."""
        self._agent_spawn(
            'setsid sh -c "sync; sleep 0.5; echo b >/proc/sysrq-trigger" '
            '</dev/null >/dev/null 2>&1 &'
        )

    def restart_agent(self, refusing: Sequence[str] = ()) -> None:
        """Start its agent anew.

        :param refusing: the commands that it is not to execute
        """
        started = f'witness: agent started at {time.monotonic()}'
        refuse = f'-b {",".join(refusing)}' if refusing else ''
        self.end_agent(
            f'sleep 1; agent --retry-path {refuse}; '
            f"echo '{started}' >/dev/console"
        )
        wait_until(
            lambda: started in self.console() and self.agent_answers(),
            f'the agent of {self.name} to start',
            _AGENT_TIMEOUT,
        )

    # Sleep and death

    def fall_asleep(self) -> None:
        """Let it sleep (S3), until it is woken.

        libvirt hears a moment later that the agent has let go of its channel.
        """
        self._agent_spawn('sync; sleep 0.2; echo mem >/sys/power/state')
        self._wait_for_state(libvirt.VIR_DOMAIN_PMSUSPENDED, 'fall asleep')
        wait_until(
            lambda: not self.agent_connected(),
            f'the agent of {self.name} to fall asleep',
            _STATE_TIMEOUT,
        )

    def wake_up(self) -> None:
        self.domain.pMWakeup()
        self._wait_for_state(libvirt.VIR_DOMAIN_RUNNING, 'wake up')

    def crash(self) -> None:
        """Let its system crash."""
        self._agent_spawn('sync; sleep 0.2; echo c >/proc/sysrq-trigger')
        self._wait_for_state(libvirt.VIR_DOMAIN_CRASHED, 'crash')

    def _wait_for_state(self, state: int, what: str) -> None:
        wait_until(
            lambda: self.domain.state()[0] == state,
            f'{self.name} to {what}',
            _STATE_TIMEOUT,
        )

    def _agent_spawn(self, script: str) -> int:
        answer = self.agent_command(
            'guest-exec',
            path='/bin/sh',
            arg=['-c', script],
            **{'capture-output': False},
        )
        return int(answer['pid'])

    @property
    def _console_file(self) -> Path:
        return self.directory / 'console.log'

    @property
    def _fills_file(self) -> Path:
        return self.directory / 'fills.json'

    def _needs_disks(self) -> bool:
        # A transient guest that is shut off still has its files.
        return self.options.persistent or not self._fills_file.exists()

    def _write_disks(self) -> None:
        # Remove the rest of a process that was killed.
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        if self.options.snapshot:
            shutil.copyfile(self.options.snapshot, self.disk.path)
            fills = {}
        else:
            write_disk(self.options.shape, self.image, self.directory)
            fills = self.image.fills
            if self.options.shape is not Shape.CHAIN3:
                del fills['middle']
        if self.options.second_disk:
            second = self.second_disk
            run(
                [
                    *('qemu-img', 'create', '-q', '-f', second.format),
                    *(second.path, _SECOND_DISK_SIZE),
                ],
                timeout=60,
            )
        # Write this file last: it says that the others are complete.
        self._fills_file.write_text(json.dumps(fills))

    def _xml(self) -> str:
        disks = [self.disk]
        if self.options.second_disk:
            disks.append(self.second_disk)
        return domain_xml(
            self.options,
            domain_type(),
            disks,
            self._sockets,
            self._console_file,
        )
