# SPDX-License-Identifier: Apache-2.0
"""The laws that hold after a death, whoever has died."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import libvirt
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image
from testtools.content import text_content

from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.cloud.options import Storage
from lab.errors import LabTimeout
from tests import laws
from tests.exhaustive import seed
from tests.openstack import base
from tests.openstack.ceph.strays import strays
from tests.openstack.ceph.survival import victims
from tests.openstack.ceph.survival.cases import Case
from tests.openstack.ceph.survival.cases import cases_of
from tests.openstack.ceph.survival.cases import is_enough
from tests.openstack.ceph.survival.results import GONE
from tests.openstack.ceph.survival.results import PROVEN
from tests.openstack.ceph.survival.results import Outcome
from tests.openstack.ceph.survival.results import note

#: Nobody knows of a snapshot that dies before that, of which nothing is there
#: but the image that nova-api has made.
FIRST = 'after remember 1'

#: Seconds until a snapshot comes to a step.
STEP_TIMEOUT = 60

#: Seconds in which the guest is whole again, starts of services included.
WHOLE_TIMEOUT = 60

#: Seconds in which everything is gone that was to go.
SETTLE_TIMEOUT = 60

#: Nothing but a domain is looked at.
NOWHERE = laws.Directories('', '')

#: The error of Nova where a server gets another task during a request.
UNEXPECTED_TASK_STATE = 'UnexpectedTaskStateError'

#: The participants of any method.
ALL_VICTIMS = tuple(
    victim for victim in victims.VICTIMS if victim != 'cinder-volume'
)


class SurvivalTest(base.CloudTest):
    """The cases of one path or more, with one server.

    :cvar takes_part: who has a part in them
    """

    cloud_options: ClassVar[dict[str, Any]] = {
        'storage': Storage.CEPH,
        'gated': True,
    }
    nova_compute: ClassVar[Overrides] = {
        ('DEFAULT', 'periodic_fuzzy_delay'): 0,
        ('DEFAULT', 'sync_power_state_interval'): 5,
    }
    takes_part: ClassVar[Sequence[str]] = ALL_VICTIMS
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot_server()
        cls.addClassCleanup(cls.delete, cls.server)

    @classmethod
    def boot_server(cls) -> Server:
        return cls.boot()

    def survives(self, path: str, status: str = 'ACTIVE') -> None:
        """Go through the cases of a path.

        :param status: of the server
        """
        self.addDetail('seed', text_content(seed()))
        self._strays = strays(self.cloud.ceph, self.admin.image)
        self.status = status
        self.earliest = self.records(self.server)
        with self.in_state(self.server, status):
            outcomes = self._outcomes(path)
        self.assertNotEqual([], outcomes)
        self.assertEqual([], [str(each) for each in outcomes if each.miss])

    def _outcomes(self, path: str) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for case in cases_of(path, self.steps(), self.takes_part):
            outcome = self._outcome_of(case)
            if outcome is not None:
                note(outcome)
                outcomes.append(outcome)
            if is_enough(len(outcomes)):
                break
        return outcomes

    def steps(self) -> list[str]:
        """The steps of a snapshot, from the one on by which it is known."""
        with self.cloud.gate.watched():
            self.discard(self.snapshot(self.server))
        steps = self.cloud.gate.steps
        return steps[steps.index(FIRST) :]

    def _outcome_of(self, case: Case) -> Outcome | None:
        """
        :returns: None where there was nobody to be killed
        """
        try:
            return self._survive(case)
        except Exception as error:
            self.addDetail(str(case), text_content(traceback.format_exc()))
            self._begin_anew()
            return Outcome(case, miss=str(error) or type(error).__name__)

    def _survive(self, case: Case) -> Outcome | None:
        before = self.before(self.server)
        image, began = self._kill(case, before.name)
        if began is None:
            self.discard(self.wait_for_image(image))
            return None
        if self.lost_guest:
            before = dataclasses.replace(before, state='shut off')
        seconds = self._wait_until_whole(before, began)
        self.wait_for_no_task(self.server.id)
        end = self._see_image(image)
        self._wait_until_nothing_is_left(before)
        if self.lost_guest:
            self._begin_anew()
        self.discard(self.snapshot(self.server))
        return Outcome(case, seconds, end)

    def _kill(self, case: Case, domain: str) -> tuple[Image, float | None]:
        """
        :returns: the image, and when it was
        """
        with self.cloud.gate.held_at(case.step):
            image = self.ask_for_snapshot(self.server)
            self.cloud.gate.wait_for(case.step, STEP_TIMEOUT)
            began = time.monotonic()
            had_victim = victims.VICTIMS[case.victim](self.cloud, domain)
        self.lost_guest = had_victim and case.victim in (
            victims.GUEST,
            victims.POWER,
        )
        victims.revive(self.cloud)
        if had_victim or case.victim == victims.POWER:
            return image, began
        return image, None

    def _wait_until_whole(self, before: laws.Before, began: float) -> float:
        found: list[str] = []

        def is_whole() -> bool:
            found[:] = self._differences(before, NOWHERE)
            return not found

        try:
            wait_until(is_whole, 'the guest', WHOLE_TIMEOUT, 0.1)
        except LabTimeout:
            self.fail('; '.join(found))
        return time.monotonic() - began

    def _differences(
        self, before: laws.Before, directories: laws.Directories
    ) -> list[str]:
        try:
            with self.hypervisor() as connection:
                return laws.differences(connection, before, directories)
        except libvirt.libvirtError as error:
            return [str(error)]

    def _see_image(self, image: Image) -> str:
        """
        :returns: what came of it
        """
        # By its type it may be one of version 1.
        found: Any = self.admin.image.find_image(image.id)
        if found is not None and found.status == 'active':
            self.prove(found)
            self.discard(found)
            return PROVEN
        self.wait_until_gone(image)
        return GONE

    def prove(self, image: Image) -> None:
        """See that an image is what it says."""
        self.examine(image, self.earliest)

    def discard(self, image: Image) -> None:
        """Delete an image, and what it is made of."""
        self.admin.image.delete_image(image.id)

    def _wait_until_nothing_is_left(self, before: laws.Before) -> None:
        left: list[str] = []

        def is_clean() -> bool:
            left[:] = [
                *self._differences(before, self.directories),
                *(strays(self.cloud.ceph, self.admin.image) - self._strays),
                *self.left_elsewhere(),
                *(f'process {pid}' for pid in victims.processes(self.cloud)),
            ]
            return not left

        try:
            wait_until(is_clean, 'the rest to go', SETTLE_TIMEOUT, 0.3)
        except LabTimeout:
            self.fail('; '.join(left))

    def left_elsewhere(self) -> list[str]:
        """The remains of a snapshot outside of the host and Ceph."""
        return []

    def _begin_anew(self) -> None:
        """Have the server as the next case wants it."""
        victims.revive(self.cloud)
        wait_until(self._reboots, 'Nova to agree', SETTLE_TIMEOUT, 0.5)
        self.wait_for_status(self.server, 'ACTIVE')
        self.wait_for_records(self.server)
        if self.status == 'SHUTOFF':
            self.demo.compute.stop_server(self.server.id)
            self.wait_for_status(self.server, self.status)

    def _reboots(self) -> bool:
        """Nova may have seen by itself that the guest is gone.

        Where it sees that between its check and its request, nova-api has no
        word for it but an unexpected error.
        """
        try:
            self.admin.compute.reboot_server(self.server.id, 'HARD')
        except sdk_exceptions.ConflictException:
            return False
        except sdk_exceptions.HttpException as error:
            if UNEXPECTED_TASK_STATE not in str(error):
                raise
            return False
        return True
