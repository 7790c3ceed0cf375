# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import pathlib
import re
from typing import Any

import ddt
import fixtures
import testtools
from oslo_log import formatters
from oslo_log import log

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.events import Event
from tests.unit import documents
from tests.unit import tables
from tests.unit.entries import taken
from tests.unit.host import FakeHost
from tests.unit.recovery.test_healer import RecoveryCase

LOG = log.getLogger(__name__)

PAGE = pathlib.Path(__file__).parents[3] / 'doc/source/admin/operating.rst'

_ROW = re.compile(
    r'^   \* - ``(?P<name>[a-z]+\.[a-z-]+)``\n'
    r'     - (?P<level>[A-Z]+)\n'
    r'     -(?P<fields>.*)\n',
    re.MULTILINE,
)

#: The fields that oslo.log adds to every line.
_OF_OSLO = {'event', 'instance_uuid', 'project', 'version'}


class Records(logging.Handler):
    """Collects what is logged of events."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, 'event'):
            self.records.append(record)

    def names(self) -> list[str]:
        return [record.__dict__['event'] for record in self.records]


def collected(case: testtools.TestCase) -> Records:
    records = Records()
    logging.getLogger().addHandler(records)
    case.addCleanup(logging.getLogger().removeHandler, records)
    return records


def described() -> dict[str, tuple[str, set[str]]]:
    """Level and fields of each event, as the documentation has them."""
    return {
        row['name']: (
            row['level'],
            set(re.findall(r'``(\w+)``', row['fields'])),
        )
        for row in _ROW.finditer(PAGE.read_text())
    }


def assert_as_described(case: testtools.TestCase, records: Records) -> None:
    """Check each event against the level and fields of its documentation."""
    table = described()
    for record in records.records:
        name = record.__dict__['event']
        fields = set(record.__dict__['extra_keys']) - _OF_OSLO
        case.assertEqual(table[name], (record.levelname, fields), name)


class DocumentationTest(testtools.TestCase):
    def test_every_event(self) -> None:
        self.assertEqual(
            sorted(event.value for event in Event), sorted(described())
        )

    def test_snapshots(self) -> None:
        """The documentation of the events of snapshots holds."""
        host = self.useFixture(FakeHost())
        records = collected(self)
        host.machine.refusals['backupBegin'] = 1
        host.snapshot()
        assert_as_described(self, records)
        self.assertEqual(
            {
                Event.BEGUN.value,
                Event.PLANNED.value,
                Event.PROGRESS.value,
                Event.REFUSED.value,
                Event.STILL.value,
                Event.TAKEN.value,
            },
            set(records.names()),
        )

    def test_order(self) -> None:
        host = self.useFixture(FakeHost())
        records = collected(self)
        host.snapshot()
        self.assertEqual(
            [
                'snapshot.begun',
                'snapshot.planned',
                'snapshot.still',
                'snapshot.taken',
            ],
            [name for name in records.names() if 'progress' not in name],
        )


class StallTest(testtools.TestCase):
    def test_ways(self) -> None:
        host = self.useFixture(FakeHost())
        records = collected(self)
        host.set('snapshot', 'method', 'cold')
        snapshot = host.snapshot()
        ways = [
            (record.__dict__['by'], record.__dict__['seconds'])
            for record in records.records
            if record.__dict__['event'] == 'snapshot.still'
        ]
        self.assertEqual(['suspend', 'freeze'], [by for by, _ in ways])
        # From the freeze to the thaw.
        self.assertLessEqual(ways[0][1], ways[1][1])
        self.assertGreater(snapshot.stall_seconds, 0)


class RecoveryTest(RecoveryCase):
    def test_dead_snapshot(self) -> None:
        records = collected(self)
        self.die()
        self.heal()
        self.assertEqual(['recovery.begun', 'recovery.done'], records.names())
        assert_as_described(self, records)

    def test_domain_that_can_not_be_healed(self) -> None:
        self.journal.remember(taken(self.guest.definition()))
        self.machine.refusals['isPersistent'] = 1
        records = collected(self)
        self.host.healer().heal(self.host.context)
        self.assertEqual(
            ['recovery.begun', 'recovery.failed'], records.names()
        )
        assert_as_described(self, records)

    def test_guest_that_is_not_given_back(self) -> None:
        records = collected(self)

        def fail() -> None:
            raise exception.DomainBusy(domain=documents.NAME)

        self.assertRaises(
            exception.UndoFailed,
            undo.retry_undo,
            documents.NAME,
            'resume',
            fail,
            'Do it.',
        )
        self.assertEqual(['guest.undo-failed'], records.names())
        assert_as_described(self, records)


@ddt.ddt
class WordsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())

    @tables.rows(
        {
            'word': ('no-space', 'no-space'),
            'number': (0.5, '0.5'),
            'truth': (True, 'true'),
            'nothing': (None, 'null'),
            'sentence': ('attach hostdev0', '"attach hostdev0"'),
            'empty': ('', '""'),
            'forged': ('x] [event=snapshot.taken', '"x] [event=snapshot'),
            'two_lines': ('x\nERROR y', '"x\\nERROR y"'),
        }
    )
    def test_value(self, value: Any, expected: str) -> None:
        events.log_event(LOG.error, Event.FAILED, 'It failed', code=value)
        self.assertIn(
            f'It failed [event=snapshot.failed code={expected}',
            self.log.output,
        )
        self.assertEqual(1, self.log.output.count('\n'))

    def test_percent_sign(self) -> None:
        error = exception.HypervisorError(
            domain='%s', operation='%d', reason='%(x)s'
        )
        events.log_event(LOG.error, Event.FAILED, error, code=error.code)
        self.assertIn('Domain %s: %d failed: %(x)s [', self.log.output)

    def test_json(self) -> None:
        """A program reads the fields by themselves."""
        records = collected(self)
        events.log_event(
            LOG.error,
            Event.FAILED,
            'It failed',
            documents.UUID,
            code='no-space',
        )
        [record] = records.records
        extra = json.loads(formatters.JSONFormatter().format(record))['extra']
        self.assertEqual('snapshot.failed', extra['event'])
        self.assertEqual('no-space', extra['code'])
        self.assertEqual(documents.UUID, extra['instance_uuid'])
