# SPDX-License-Identifier: Apache-2.0
"""Every state that libvirt has for a domain, with each of its reasons."""

from __future__ import annotations

import pathlib
import re

import ddt
import libvirt
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.disk import disks_of
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.model import AT_REST
from nova_snapshot_driver.snapshot.plan.model import Obstacles
from nova_snapshot_driver.snapshot.plan.model import Pause
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.planner import make_plan
from nova_snapshot_driver.snapshot.plan.planner import make_volumes_plan
from tests.unit import documents
from tests.unit import tables
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import FakeHost

PAGE = pathlib.Path(__file__).parents[2] / 'doc/source/reference/states.rst'

STATES = (
    'NOSTATE',
    'RUNNING',
    'BLOCKED',
    'PAUSED',
    'SHUTDOWN',
    'SHUTOFF',
    'CRASHED',
    'PMSUSPENDED',
)

#: Other enumerations of libvirt whose names begin like those of a state.
OTHERS = re.compile(
    r'VIR_DOMAIN_(SHUTDOWN_(DEFAULT|ACPI_POWER_BTN|GUEST_AGENT|INITCTL|SIGNAL'
    r'|PARAVIRT)|PMSUSPENDED_DISK_\w+|\w+_LAST)'
)

#: The reasons that an older libvirt lacks.
NEWER = {('PAUSED', 'API_ERROR'): 14}

#: The state of the guest -> the method, the method where it is to be
#: suspended, and whether it can be frozen.
WAYS = {
    PowerState.RUNNING: ('backup', 'cold', 'yes'),
    PowerState.PAUSED: ('backup', 'cold', 'no'),
    PowerState.ASLEEP: ('backup', 'refused', 'no'),
    PowerState.CRASHED: ('backup', 'refused', 'no'),
    PowerState.SHUTTING_DOWN: ('refused', 'refused', 'no'),
    PowerState.SHUT_OFF: ('cold', 'cold', 'no need'),
    PowerState.SUSPENDED: ('cold', 'cold', 'no'),
}

#: In a refusal: what a person can do.
REMEDIES = {
    PowerState.ASLEEP: 'virsh dompmwakeup',
    PowerState.CRASHED: 'virsh reset',
    PowerState.SHUTTING_DOWN: 'Wait until it has stopped',
}

COLD = (
    ('snapshot', 'method', 'cold'),
    ('workarounds', 'disable_libvirt_livesnapshot', True),
    ('ephemeral_storage_encryption', 'enabled', True),
)


def enumerated() -> dict[tuple[str, str], tuple[int, int]]:
    """The states of this libvirt and their reasons, by name."""
    found = {}
    for state in STATES:
        prefix = f'VIR_DOMAIN_{state}'
        for name in dir(libvirt):
            if name.startswith(f'{prefix}_') and not OTHERS.fullmatch(name):
                reason = name.removeprefix(f'{prefix}_')
                found[state, reason] = (
                    getattr(libvirt, prefix),
                    getattr(libvirt, name),
                )
    return found


def documented() -> dict[tuple[str, str], tuple[str, ...]]:
    """The table of the page: state and reason -> the other columns."""
    text = re.sub(r'\n       ', ' ', PAGE.read_text())
    rows = re.findall(r'^   \* - (.+)\n((?:     - .+\n)+)', text, re.MULTILINE)
    table: dict[tuple[str, str], tuple[str, ...]] = {}
    for state, rest in rows[1:]:
        reasons, *columns = re.findall(r'^     - (.+)$', rest, re.MULTILINE)
        for reason in re.findall(r'``(\w+)``', reasons):
            assert (state.strip('`'), reason) not in table, reason
            table[state.strip('`'), reason] = tuple(columns)
    return table


ENUMERATED = enumerated()
DOCUMENTED = documented()


class TableTest(testtools.TestCase):
    """Nothing is missing in it, and nothing is invented."""

    def test_every_state_is_looked_for(self) -> None:
        """Each has a reason that is not known, and nothing else has one."""
        found = re.findall(
            r'^VIR_DOMAIN_([A-Z]+)_UNKNOWN$',
            '\n'.join(dir(libvirt)),
            re.MULTILINE,
        )
        self.assertEqual(
            set(STATES),
            {name for name in found if hasattr(libvirt, f'VIR_DOMAIN_{name}')},
        )

    def test_every_reason_has_a_row(self) -> None:
        """A libvirt that has another one fails here until it has a row."""
        self.assertEqual(set(), ENUMERATED.keys() - DOCUMENTED.keys())
        self.assertEqual(
            set(), DOCUMENTED.keys() - ENUMERATED.keys() - NEWER.keys()
        )

    def test_every_power_state_has_its_ways(self) -> None:
        self.assertEqual(set(PowerState), WAYS.keys())


@ddt.ddt
class ActiveTest(testtools.TestCase):
    """An active domain, row by row."""

    def guest(self, state: int, reason: int) -> Guest:
        host = self.useFixture(FakeHost())
        host.machine.state, host.machine.reason = state, reason
        return host.guest()

    @tables.rows(
        {
            f'{state}_{reason}': (
                *ENUMERATED.get(
                    (state, reason), (libvirt.VIR_DOMAIN_PAUSED, number)
                ),
                DOCUMENTED.get((state, reason), ()),
            )
            for state, reason, number in (
                *((*names, 0) for names in ENUMERATED),
                *((*names, number) for names, number in NEWER.items()),
            )
        }
    )
    def test_as_the_page_says(
        self, state: int, reason: int, columns: tuple[str, ...]
    ) -> None:
        guest = self.guest(state, reason)
        power_state = guest.power.state()
        self.assertEqual(
            columns, (power_state.value, *ways_of(guest, power_state))
        )

    def test_state_of_a_libvirt_to_come(self) -> None:
        guest = self.guest(99, 0)
        self.assertIs(PowerState.RUNNING, guest.power.state())

    def test_reason_of_a_libvirt_to_come(self) -> None:
        guest = self.guest(libvirt.VIR_DOMAIN_PAUSED, 99)
        self.assertIs(PowerState.PAUSED, guest.power.state())


@ddt.ddt
class InactiveTest(testtools.TestCase):
    """Without a QEMU process the state is no matter."""

    @tables.rows(
        {'_'.join(names): numbers for names, numbers in ENUMERATED.items()}
    )
    def test_at_rest(self, state: int, reason: int) -> None:
        host = self.useFixture(FakeHost())
        for stop, expected in (
            (lambda: FakeDomain(host.machine).managedSave(0), 'suspended'),
            (lambda: setattr(host.machine, 'saved', None), 'shut off'),
        ):
            stop()
            host.machine.state, host.machine.reason = state, reason
            found = host.guest().power.state()
            self.assertEqual(expected, found.value)
            self.assertIn(found, AT_REST)
            self.assertEqual(WAYS[found], ways_of(host.guest(), found))


def ways_of(guest: Guest, state: PowerState) -> tuple[str, str, str]:
    """The plan for a guest, in the words of the table."""
    suspended = {way(guest, state, option) for option in COLD}
    assert len(suspended) == 1, suspended
    return way(guest, state), suspended.pop(), freeze(guest, state)


def way(
    guest: Guest, state: PowerState, *options: tuple[str, str, object]
) -> str:
    try:
        plan = plan_of(guest, state, *options)
    except exception.NotSupported as refusal:
        assert REMEDIES[state] in str(refusal), refusal
        return 'refused'
    assert plan.power_state is state
    return plan.method.value


def freeze(guest: Guest, state: PowerState) -> str:
    """Whether it can be frozen, and that ``require`` agrees.

    Where its disk would be is no matter: one that is a volume has no path.
    """
    plans = []
    for policy in ('auto', 'require'):
        configuration = conf.load([], [('snapshot', 'quiesce', policy)])
        try:
            plans.append(
                make_volumes_plan(
                    conf.plan_settings(configuration),
                    Instance(documents.NAME),
                    guest.describe(),
                    state,
                    4,
                )
            )
        except exception.QuiesceFailed as error:
            assert state.value in str(error), error
    assert plans[0].freeze or state.value in str(plans[0].quiesce_reason)
    runs = state is PowerState.RUNNING
    assert (plans[0].pause is not Pause.NEVER) is runs
    if len(plans) == 1:
        return 'no'
    return 'yes' if plans[1].freeze else 'no need'


def plan_of(
    guest: Guest, state: PowerState, *options: tuple[str, str, object]
) -> Plan:
    return make_plan(
        conf.plan_settings(conf.load([], options)),
        Instance(documents.NAME),
        guest.describe(),
        disks_of(guest.describe()),
        state,
        Obstacles(),
    )
