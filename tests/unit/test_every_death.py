# SPDX-License-Identifier: Apache-2.0
"""A snapshot dies before every step, and the host is healed after it.

The steps are those of a run that is recorded when this module is imported, and
drawn by lot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping

import ddt
import testtools

from nova_snapshot_driver import exception
from tests import exhaustive
from tests import laws
from tests.unit import mortal
from tests.unit import tables
from tests.unit.host import FakeHost
from tests.unit.ways import DIRECT
from tests.unit.ways import WAYS
from tests.unit.ways import Way


class Process(mortal.Process):
    """A process that snapshots a root disk.

    :param fails: an extraction fails
    """

    def __init__(
        self,
        host: FakeHost,
        step: str | None = None,
        then: Callable[[], object] | None = None,
        fails: bool = False,
    ) -> None:
        super().__init__(host, step, then)
        self._fails = fails

    def _setUp(self) -> None:
        super()._setUp()
        self.host.data_plane.at_extract = self._extract
        self.host.ceph.at_command = lambda name: self.begin(
            name.replace(' ', '_')
        )

    def _extract(self) -> None:
        self.begin('extract')
        if self._fails:
            raise exception.CommandFailed(
                command='qemu-img convert', status=1, reason='broken'
            )


#: Ways, and a step before which much is to be given back.
WORST = {
    'mirror': 'fsThaw_1',
    'cold_device': 'extract_1',
    'direct': 'extract_1',
}

ALL_WAYS = WAYS | {'direct': DIRECT['direct']}


def _every_death(
    ways: Mapping[str, Way], fails: bool = False
) -> dict[str, tuple[Way, str]]:
    table = {}
    for name, way in ways.items():
        with way.host() as host, Process(host, fails=fails) as process:
            way.prepare(host)
            process.snapshot()
        for step in process.steps:
            table[f'{name}_{step}'] = (way, step)
    return table


def _every_step_of_healing(
    deaths: Mapping[str, str],
) -> dict[str, tuple[Way, str, str]]:
    """
    :param deaths: the ways, and the step at which the snapshot has died
    """
    table = {}
    for name, death in deaths.items():
        way = ALL_WAYS[name]
        with way.host() as host:
            way.prepare(host)
            with Process(host, death) as process:
                process.snapshot()
            with Process(host) as process:
                process.heal()
        for step in process.steps:
            table[f'{name}_{step}'] = (way, death, step)
    return table


class DeathCase(testtools.TestCase):
    def die(self, way: Way, step: str, fails: bool = False) -> None:
        """Let a process die that takes a snapshot."""
        self.host = self.useFixture(way.host())
        way.prepare(self.host)
        self.before = self.host.before()
        with Process(self.host, step, fails=fails) as process:
            process.snapshot()
        self.assertEqual(step, process.steps[-1])
        self.knew_image = process.knew_image

    def image_status(self) -> str | None:
        image = self.host.glance.images.get(self.host.image)
        return None if image is None else str(image['status'])

    def is_healed(self, before: laws.Before | None = None) -> None:
        """Heal the host, and see that the laws hold."""
        status = self.image_status()
        with Process(self.host) as process:
            process.heal()
        self.assertEqual([], self.host.differences(before or self.before))
        # A complete image stays. An image of a snapshot that never began is
        # unknown to the driver.
        if status != 'active' and self.knew_image:
            status = None
        self.assertEqual(status, self.image_status())


@ddt.ddt
class DeathTest(DeathCase):
    @tables.rows(exhaustive.drawn(_every_death(ALL_WAYS)))
    def test_healed(self, way: Way, step: str) -> None:
        self.die(way, step)
        self.is_healed()


@ddt.ddt
class RebootTest(DeathCase):
    """The host has died, and the guest: a domain that is transient is gone."""

    @tables.rows(_every_death({'mirror': WAYS['mirror']}))
    def test_healed(self, way: Way, step: str) -> None:
        self.die(way, step)
        self.host.machine.stop()
        self.is_healed(dataclasses.replace(self.before, state='shut off'))


@ddt.ddt
class UndoTest(DeathCase):
    """The snapshot has failed, and dies while it gives the guest back."""

    @tables.rows(
        exhaustive.drawn(
            _every_death({way: ALL_WAYS[way] for way in WORST}, fails=True)
        )
    )
    def test_healed(self, way: Way, step: str) -> None:
        self.die(way, step, fails=True)
        self.is_healed()


@ddt.ddt
class HealTest(DeathCase):
    """The healer itself may die, too."""

    @tables.rows(exhaustive.drawn(_every_step_of_healing(WORST)))
    def test_dies_too(self, way: Way, death: str, step: str) -> None:
        self.die(way, death)
        with Process(self.host, step) as process:
            process.heal()
        self.assertEqual(step, process.steps[-1])
        self.is_healed()

    @tables.rows(_every_step_of_healing({'mirror': WORST['mirror']}))
    def test_guest_dies(self, way: Way, death: str, step: str) -> None:
        self.die(way, death)
        with Process(self.host, step, self.host.machine.stop) as process:
            process.heal()
        self.assertIn(step, process.steps)
        self.is_healed(dataclasses.replace(self.before, state='shut off'))
