# SPDX-License-Identifier: Apache-2.0
"""A gate at which a nova-compute stops as long as a test wants it to.

Every change of the driver's journal has a gate before and after it, and every
request to Cinder that changes a volume which no server has.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.bounded import wait_until
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.state.journal import Journal

#: The module of a nova-compute with a gate, and the variable of its
#: environment that names the directory of that.
NOVA_COMPUTE = 'lab.cloud.gated_compute'
VARIABLE = 'NOVA_SNAPSHOT_GATE'

#: The methods by which something changes.
CHANGES = (
    (Journal, 'remember'),
    (Journal, 'forget'),
    (CinderVolumes, 'create_volume'),
    (CinderVolumes, 'revert'),
    (CinderVolumes, 'attach'),
    (CinderVolumes, 'complete'),
    (CinderVolumes, 'create_snapshot'),
    (CinderVolumes, 'detach'),
    (CinderVolumes, 'set_snapshot_metadata'),
)

_INTERVAL = 0.02


class Gate:
    """The test's side of the gate.

    :param directory: that both sides know
    """

    def __init__(self, directory: Path) -> None:
        self._files = _Files(directory)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Record the steps that are reached inside, for :attr:`steps`."""
        self._files.open()
        try:
            yield
        finally:
            self._files.close()

    @property
    def steps(self) -> list[str]:
        """The steps reached so far, such as ``after remember 2``, in order."""
        return self._files.steps()

    @contextlib.contextmanager
    def held_at(self, step: str) -> Iterator[None]:
        """Hold inside every process that reaches a step."""
        self._files.open()
        self._files.hold.write_text(step)
        try:
            yield
        finally:
            self._files.hold.unlink()
            self._files.close()

    def wait_for(self, step: str, timeout: float) -> None:
        """Wait until a process has reached a step.

        :raises LabTimeout: none has
        """
        wait_until(
            lambda: step in self.steps, f'the step {step!r}', timeout, 0.02
        )


def install(directory: Path) -> None:
    """Have this process stop at the gates."""
    files = _Files(directory)
    lock = threading.Lock()

    def come_to(step: str) -> None:
        with lock:
            step = files.note(step)
        while step and files.holds(step):
            time.sleep(_INTERVAL)

    for kind, change in CHANGES:
        setattr(kind, change, _around(getattr(kind, change), come_to))


def _around(
    change: Callable[..., Any], come_to: Callable[[str], None]
) -> Callable[..., Any]:
    @functools.wraps(change)
    def changed(*args: Any, **kwargs: Any) -> Any:
        come_to(f'before {change.__name__}')
        result = change(*args, **kwargs)
        come_to(f'after {change.__name__}')
        return result

    return changed


class _Files:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.hold = directory / 'hold'
        self._steps = directory / 'steps'
        self._is_open = directory / 'open'

    def open(self) -> None:
        self._directory.mkdir(exist_ok=True)
        self._steps.write_text('')
        self._is_open.touch()

    def close(self) -> None:
        self._is_open.unlink()

    def steps(self) -> list[str]:
        return self._steps.read_text().splitlines()

    def note(self, step: str) -> str:
        """
        :returns: the step with its number; empty where nobody asks
        """
        if not self._is_open.exists():
            return ''
        earlier = self.steps()
        number = 1 + sum(each.startswith(f'{step} ') for each in earlier)
        numbered = f'{step} {number}'
        with self._steps.open('a') as file:
            file.write(f'{numbered}\n')
        return numbered

    def holds(self, step: str) -> bool:
        try:
            return self.hold.read_text() == step
        except FileNotFoundError:
            return False
