# SPDX-License-Identifier: Apache-2.0
"""Observation of the host while a snapshot is taken."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Self

import libvirt

from bench import processes
from bench.processes import Usage
from bench.sample import COMPUTE
from bench.sample import DATA_PLANE
from bench.sample import GLANCE
from bench.sample import LIBVIRTD
from bench.sample import QEMU
from bench.sample import QEMU_IMG
from lab.cloud.cloud import Cloud

_INTERVAL = 0.05
_BLOCK = 512

_DATA_PLANE_MODULE = 'nova_snapshot_driver.transfer'


@dataclasses.dataclass(frozen=True)
class Host:
    """The processes and files of a host that take part in a snapshot."""

    cloud: Cloud
    #: the server's id
    server: str
    domain: Any

    def usage(self) -> dict[str, Usage]:
        """The use of each group of processes since its start."""
        services = self.cloud.services
        # The daemon of privsep is a child of nobody.
        privsep = processes.find('privsep-helper', str(self.cloud.directory))
        compute = {
            *self.compute,
            *itertools.chain(*map(processes.family, privsep)),
        }
        return {
            QEMU: processes.guest_usage(self.qemu),
            COMPUTE: processes.total(map(processes.usage, compute)),
            LIBVIRTD: processes.tree_usage(services['libvirtd'].pid),
            GLANCE: processes.tree_usage(services['glance'].pid),
        }

    @property
    def qemu(self) -> int:
        """The process of the guest."""
        [pid] = processes.find('qemu-system', self.server)
        return pid

    @property
    def compute(self) -> list[int]:
        """nova-compute and all its descendants."""
        return list(processes.family(self.cloud.compute.pid))

    @property
    def temporary(self) -> int:
        """The bytes on disk of all files that exist for the snapshot alone."""
        instances = self.cloud.instances_path
        return sum(
            map(
                _size_on_disk,
                (
                    instances / 'snapshots',
                    instances.parent / 'snapshot-driver',
                    # The memory of a suspended guest.
                    self.cloud.directory / 'libvirt/lib/qemu/save',
                ),
            )
        )

    @property
    def state(self) -> int | None:
        """The state of the domain; None if it has gone."""
        with contextlib.suppress(libvirt.libvirtError):
            return int(self.domain.state()[0])
        return None


class Meter:
    """Looks at what comes and goes, until the end of the context."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parts: dict[int, tuple[str, Usage]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._state = host.state
        self._pid = host.cloud.compute.pid
        #: bytes
        self.temporary = 0
        #: bytes, of the data plane with its children
        self.memory = 0
        #: seconds in which the domain was not in its state
        self.away = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def parts(self) -> dict[str, Usage]:
        """The use of nova-compute's children, by their kind.

        The last moment of a child may be missing.
        """
        return {
            kind: processes.total(
                usage for name, usage in self._parts.values() if name == kind
            )
            for kind in (DATA_PLANE, QEMU_IMG)
        }

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(_INTERVAL):
            before, looked = looked, time.monotonic()
            if self._host.state != self._state:
                self.away += looked - before
            self.temporary = max(self.temporary, self._host.temporary)
            self._look_at_children()

    def _look_at_children(self) -> None:
        resident = 0
        for pid in self._host.compute:
            if pid == self._pid:
                continue
            kind = _kind(processes.command(pid))
            if kind is None:
                continue
            self._parts[pid] = kind, processes.own_usage(pid)
            if kind == DATA_PLANE:
                resident += sum(map(processes.memory, processes.family(pid)))
        self.memory = max(self.memory, resident)


def _kind(command: list[str]) -> str | None:
    if _DATA_PLANE_MODULE in command:
        return DATA_PLANE
    if command and Path(command[0]).name == 'qemu-img':
        return QEMU_IMG
    return None


def _size_on_disk(directory: Path) -> int:
    size = 0
    for parent, _directories, files in os.walk(directory):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(Path(parent, file)).st_blocks * _BLOCK
    return size
