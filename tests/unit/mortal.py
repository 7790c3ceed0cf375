# SPDX-License-Identifier: Apache-2.0
"""A process that dies before a step of what it does.

The dead do nothing: what would be undone is not, as after ``kill -9``. What
they held in the kernel they have let go of: their lock, and their connection
to libvirt.
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import fixtures

from nova_snapshot_driver import exception
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import temporary_files
from tests import faults
from tests.unit.host import FakeHost


class Killed(BaseException):
    """The process is gone, and no line of it is run any more."""


class Process(fixtures.Fixture):
    """A process that uses the driver, and dies if it is to.

    :param step: before which something happens; None for nothing
    :param then: what happens; None for its death
    :ivar host: that it is on
    :ivar connection: its connection to libvirt
    :ivar steps: all of them so far: calls to libvirt, requests to Glance,
        changes to files
    :ivar knew_image: the image was in the journal, now or before
    """

    def __init__(
        self,
        host: FakeHost,
        step: str | None = None,
        then: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self.host = host
        self._step = step
        self._then = then or self._die
        self._calls: collections.Counter[str] = collections.Counter()
        self.is_dead = False
        self.connection = _Connection(host.connection, self.begin).connection
        self.steps: list[str] = []
        self.knew_image = False

    def _setUp(self) -> None:
        for where, name in (
            (Journal, 'remember'),
            (Journal, 'forget'),
            (temporary_files, 'remove'),
            (os, 'unlink'),
            (self.host.glance, 'answer'),
            (self.host, 'update_task_state'),
        ):
            self.useFixture(
                fixtures.MockPatchObject(
                    where, name, self._seen(getattr(where, name), name)
                )
            )
        # The threads of the process die silently, too.
        self.useFixture(fixtures.MockPatchObject(threading, 'excepthook'))
        self.addCleanup(self.host.connection.listeners.clear)

    def _seen(self, do: Callable[..., Any], name: str) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.begin(name)
            result = do(*args, **kwargs)
            self.knew_image |= name == 'remember'
            return result

        return step

    def _die(self) -> None:
        self.is_dead = True
        raise Killed

    def begin(self, name: str) -> None:
        """A step is about to be done."""
        if self.is_dead:
            raise Killed
        self._calls[name] += 1
        step = f'{name}_{self._calls[name]}'
        self.steps.append(step)
        if step == self._step:
            self._then()

    def snapshot(self) -> None:
        """Take a snapshot of the guest, and die if it is to be."""
        with contextlib.suppress(Killed, exception.CommandFailed):
            self.host.snapshot(self.connection)

    def heal(self) -> None:
        """Heal the host, and die if it is to be."""
        with contextlib.suppress(Killed):
            self.host.healer(self.connection).heal(self.host.context)


class _Connection(faults.Interposer):
    def __init__(
        self, connection: Any, begin: Callable[[str], object]
    ) -> None:
        super().__init__(connection)
        self._begin = begin

    def call(self, method: Callable[..., Any], name: str, *args: Any) -> Any:
        self._begin(name)
        return super().call(method, name, *args)
