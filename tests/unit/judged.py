# SPDX-License-Identifier: Apache-2.0
"""Something goes wrong in a snapshot, and it is seen that the laws hold."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Protocol
from typing import TypeVar

import testtools

from nova_snapshot_driver import exception
from tests import faults
from tests import laws
from tests.faults import Kind
from tests.unit.host import FakeHost


class Way(Protocol):
    """A guest, and how it is snapshotted."""

    def host(self) -> FakeHost: ...

    def prepare(self, host: FakeHost) -> None: ...


AnyWay = TypeVar('AnyWay', bound=Way)


def every_fault(
    ways: Mapping[str, AnyWay], kinds: tuple[Kind, ...]
) -> dict[str, tuple[AnyWay, faults.Fault]]:
    """The faults in the calls to libvirt, for runs that are well otherwise."""
    return {
        f'{name}_{fault}': (way, fault)
        for name, way in ways.items()
        for fault in faults.every_fault(_steps(way), kinds)
    }


def _steps(way: Way) -> list[faults.Step]:
    with way.host() as host:
        way.prepare(host)
        return faults.record(host.connection, host.snapshot)


class JudgedCase(testtools.TestCase):
    def on(self, way: Way) -> FakeHost:
        host: FakeHost = self.useFixture(way.host())
        way.prepare(host)
        return host

    def judge(
        self,
        host: FakeHost,
        before: laws.Before,
        run: Callable[[], object],
    ) -> exception.SnapshotError | None:
        """Run a snapshot, see that the laws hold; returns what it raised."""
        error = None
        try:
            run()
        except exception.SnapshotError as raised:
            error = raised
        self.assertEqual([], host.differences(before), str(error))
        if error is None:
            self.assertEqual(
                'active', host.glance.images[host.image]['status']
            )
        elif isinstance(error, exception.NotSupported):
            # Another driver may take it.
            self.assertEqual(
                'queued', host.glance.images[host.image]['status']
            )
        else:
            self.assertNotIn(host.image, host.glance.images)
            self.assertNotIsInstance(error, exception.UndoFailed)
        return error
