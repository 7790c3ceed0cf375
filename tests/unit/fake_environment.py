# SPDX-License-Identifier: Apache-2.0
"""A service around the driver, with a host that may be busy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.snapshot.capture.environment import Environment


class FakeEnvironment(Environment):
    """The environment of a service.

    :ivar is_busy: there is no room for one more operation
    :ivar at_begin: called when an operation on disks is about to begin
    :ivar at_end: called when it has ended
    :ivar at_claim: called with the path of a file before it is claimed
    :ivar inside: an operation on disks is under way
    :ivar operations: how many there were
    :ivar claimed: the methods so far
    :ivar may_entrust: directories can be given to QEMU
    :ivar entrusted: those so far, each with the user that QEMU is
    :ivar cancellation: by which a wait for room is told to stop
    :ivar methods: that were planned so far
    :ivar heals: snapshots that died, of which nothing is left
    """

    def __init__(self) -> None:
        self.is_busy = False
        self.at_begin: Callable[[], object] = lambda: None
        self.at_end: Callable[[], object] = lambda: None
        self.at_claim: Callable[[str], object] = lambda _path: None
        self.inside = False
        self.operations = 0
        self.claimed: list[str] = []
        self.may_entrust = True
        self.entrusted: list[tuple[str, int]] = []
        self.cancellation: Cancellation | None = None
        self.methods: list[str] = []
        self.heals = 0

    @contextlib.contextmanager
    def disk_operation(self, cancellation: Cancellation) -> Iterator[None]:
        self.cancellation = cancellation
        self.at_begin()
        if self.is_busy:
            raise exception.HostBusy(seconds=1)
        assert not self.inside, 'it would wait for itself'
        self.inside = True
        self.operations += 1
        try:
            yield
        finally:
            self.inside = False
            self.at_end()

    def entrust(self, directory: str, uid: int) -> None:
        if not self.may_entrust:
            raise PermissionError(directory)
        self.entrusted.append((directory, uid))

    def claim(self, path: str, kind: Kind, owners: Collection[int]) -> Inode:
        self.at_claim(path)
        self.claimed.append(path)
        return Inode.of(os.stat(path))

    def planned(self, method: str) -> None:
        self.methods.append(method)

    def healed(self) -> None:
        self.heals += 1
