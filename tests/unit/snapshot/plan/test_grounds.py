# SPDX-License-Identifier: Apache-2.0
"""Nothing of the host is in what the owner of a server reads."""

from __future__ import annotations

import itertools
import pathlib
import re

import ddt
import fixtures
import testtools

import nova_snapshot_driver
from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.agent import Agent
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.snapshot import disk
from nova_snapshot_driver.snapshot.capture.pause import Stall
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.plan import grounds
from nova_snapshot_driver.snapshot.plan import model
from nova_snapshot_driver.snapshot.plan import planner
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.instance import Instance
from tests.unit import documents
from tests.unit import tables
from tests.unit import test_exception
from tests.unit.fake_glance import ENDPOINT
from tests.unit.host import FakeHost
from tests.unit.snapshot.plan import test_planner

PAGE = (
    pathlib.Path(nova_snapshot_driver.__file__).parent.parent
    / 'doc/source/user/image-properties.rst'
)

#: Details that a host may reveal.
POISON = (
    '/var/lib/nova/instances/snapshots/6394.nbd/s: Permission denied',
    'http://10.1.2.3:9292: HTTP 403',
    'vms/6394_disk@glance-client.nova',
    'rbd -c /etc/ceph/ceph.conf failed with exit status 1',
    'compute-7.internal: internal error',
)
POISONED = ' '.join(POISON)

DOMAINS = {
    'file': test_planner.DOMAIN,
    'ceph': test_planner.with_root(
        source='network', format='raw', path=None, rbd=test_planner.IMAGE
    ),
}

REASONS = tuple(name for name in metadata.OURS if name.endswith('_reason'))


def poisoned(
    error: type[exception.SnapshotError],
) -> exception.SnapshotError:
    """An error with all that a host may say of itself, in each field."""
    names = [*test_exception.fields(error), 'operation', 'reason', 'public']
    return error(**dict.fromkeys(names, POISONED))


class WordsTest(testtools.TestCase):
    def test_page_has_all(self) -> None:
        """Each reason is documented, for those who act on it."""
        section = PAGE.read_text().split('\nReasons\n')[1].split('.. _')[0]
        listed = re.findall(r'^   \* - ``(.*?)``$', section, re.MULTILINE)
        self.assertEqual([words.value for words in Words], listed)

    def test_nothing_of_a_host(self) -> None:
        for words in Words:
            self.assertRegex(words.value, r"^[A-Za-z_,' \[\]]+$")

    def test_every_state_has_some(self) -> None:
        for state in PowerState:
            self.assertIn(state.value, grounds.of_state(state).public)
            if state not in (PowerState.RUNNING, PowerState.SHUT_OFF):
                self.assertIn('agent', grounds.of_silent_agent(state).public)

    def test_other_text_is_not_public(self) -> None:
        others: tuple[object, ...] = (*POISON, '', None, 'on compute-7')
        for text in others:
            self.assertEqual(
                'the guest could not be quiesced', grounds.public(text)
            )
        for words in Words:
            self.assertEqual(words.value, grounds.public(words.value))

    def test_detail_is_for_the_operator(self) -> None:
        ground = Ground(
            Words.NO_BACKUP_JOB,
            cause=Ground(Words.REFUSED, 'by 10.1.2.3'),
            beside=Ground(Words.NOT_INSIDE_CEPH, 'of vms/disk'),
        )
        self.assertEqual(
            'there is no backup job: it is refused; no image inside Ceph',
            ground.public,
        )
        self.assertEqual(
            'there is no backup job: it is refused: by 10.1.2.3; '
            'no image inside Ceph: of vms/disk',
            str(ground),
        )


class PropertiesCase(testtools.TestCase):
    def assert_public(self, text: object) -> None:
        """A public reason is made of the words of the list alone."""
        known = {words.value for words in Words}
        pieces = re.split('; |: ', str(text))
        self.assertEqual(set(), set(pieces) - known, str(text))
        for poison in POISON:
            self.assertNotIn(poison, str(text))


@ddt.ddt
class PlanTest(PropertiesCase):
    """Every obstacle, for every disk and every state of a guest."""

    OBSTACLES = tuple(
        model.Obstacles(backup, POISONED, direct)
        for backup, direct in itertools.product(
            (None, *(Ground(words, POISONED) for words in Words)),
            (None, Ground(Words.REFUSED, POISONED)),
        )
    )

    @tables.rows(
        {
            f'{where}_{state.name.lower()}': (domain, state)
            for where, domain in DOMAINS.items()
            for state in PowerState
            if state is not PowerState.SHUTTING_DOWN
        }
    )
    def test_reasons(self, domain: Domain, state: PowerState) -> None:
        guest = self.useFixture(FakeHost()).guest()
        for obstacles in self.OBSTACLES:
            made = planner.make_plan(
                conf.plan_settings(conf.load([])),
                Instance('web-1'),
                domain,
                disk.disks_of(domain),
                state,
                obstacles,
            )
            found = metadata.of_snapshot(
                Instance('web-1'),
                made,
                made.disks[0],
                Quiesce(guest, made, 10, 10),
            )
            for name in REASONS:
                self.assert_public(found.get(name, Words.NOT_WANTED.value))

    @tables.rows({state.name.lower(): (state,) for state in PowerState})
    def test_reasons_of_volumes(self, state: PowerState) -> None:
        host = self.useFixture(FakeHost())
        guest = host.guest()
        for pause, volumes in itertools.product(
            ('auto', 'always', 'never'), (1, 4)
        ):
            made = planner.make_volumes_plan(
                conf.plan_settings(
                    conf.load([], [('snapshot', 'pause', pause)])
                ),
                Instance('web-1'),
                guest.describe(),
                state,
                volumes,
            )
            quiesce = Quiesce(guest, made, 10, 10)
            found = metadata.of_volumes(
                made, quiesce, Stall(made, quiesce, host.undo_tools())
            )
            for name in set(REASONS) - {'snapshot_way_reason'}:
                self.assert_public(found[name])


@ddt.ddt
class EveryErrorTest(PropertiesCase):
    """No error reveals the host in the image, whatever its text."""

    ERRORS = {  # noqa: RUF012
        kind.__name__: (kind,) for kind in test_exception.classes()
    }

    @tables.rows(ERRORS)
    def test_refused_path(self, kind: type[exception.SnapshotError]) -> None:
        ground = disk.refused(poisoned(kind))
        self.assert_public(ground.public)
        self.assertIn(POISONED, str(ground))

    @tables.rows(
        {
            kind.__name__: (kind,)
            for kind in test_exception.classes(exception.HypervisorError)
        }
    )
    def test_freeze(self, kind: type[exception.HypervisorError]) -> None:
        guest = self.useFixture(FakeHost()).guest()
        made = planner.make_plan(
            conf.plan_settings(conf.load([])),
            Instance('web-1'),
            guest.describe(),
            disk.disks_of(guest.describe()),
            PowerState.RUNNING,
            model.Obstacles(),
        )
        quiesce = Quiesce(guest, made, 10, 10)

        self.useFixture(
            fixtures.MockPatchObject(Agent, 'ping', side_effect=poisoned(kind))
        )
        quiesce.check()
        self.assertIn(POISONED, str(quiesce.reason))
        found = metadata.of_snapshot(
            Instance('web-1'), made, made.disks[0], quiesce
        )
        self.assert_public(found['snapshot_quiesced_reason'])


class OtherPropertiesTest(PropertiesCase):
    def test_nothing_else_is_text_of_the_host(self) -> None:
        """Each is of the request, of a list, a number or the root disk's."""
        host = self.useFixture(FakeHost())
        host.machine.refusals['backupBegin'] = 1
        snapshot = host.snapshot()
        self.assertIn(documents.NAME, snapshot.domain)
        record = host.glance.images[host.image]
        for name, value in record.items():
            if name in REASONS:
                self.assert_public(value)
            for told in (str(host.root), ENDPOINT, documents.NAME):
                if name not in ('name', 'id'):
                    self.assertNotIn(told, str(value), name)
