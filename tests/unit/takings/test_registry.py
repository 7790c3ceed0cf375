# SPDX-License-Identifier: Apache-2.0
"""A kind of taking is one class and one line: everything finds it there."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import codec
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.codec import FilePath
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import registry
from nova_snapshot_driver.takings.freeze import Freeze
from nova_snapshot_driver.takings.glance_image import UnfinishedImage
from nova_snapshot_driver.takings.taking import HeldTaking
from nova_snapshot_driver.takings.tools import UndoTools
from tests import laws
from tests.unit import documents
from tests.unit.cmd.command import CommandLine
from tests.unit.state.test_journal import ENTRY


@dataclasses.dataclass(frozen=True)
class Flag(HeldTaking):
    """An imaginary one: a file stands for what is taken from a guest."""

    path: FilePath

    KIND = 'flag'
    OPERATION = 'strike the flag'
    AFTER = frozenset({Freeze.KIND})

    @classmethod
    def suspected(cls, tools: UndoTools) -> list[Flag]:
        return [cls(flag_of(directory)) for directory in tools.configured]

    def describe(self) -> str:
        return 'strike the flag'

    def state(self) -> str:
        return 'flagged'

    def is_due(self, _tools: UndoTools) -> bool:
        return pathlib.Path(self.path).exists()

    def do(self, _tools: UndoTools) -> None:
        pathlib.Path(self.path).touch()

    def undo(self, tools: UndoTools) -> None:
        if tools.guest.is_active():
            pathlib.Path(self.path).unlink()

    def remedy(self, _tools: UndoTools) -> str:
        return 'Remove it.'


def flag_of(directory: str) -> FilePath:
    return FilePath(f'{directory}.flag')


class ImaginaryKindTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MockPatchObject(
                registry, 'KINDS', (*registry.KINDS, Flag)
            )
        )
        self.command = self.useFixture(CommandLine())
        self.host = self.command.host
        self.before = self.host.before()
        self.journal = Journal(self.host.directories.state)
        self.path = pathlib.Path(flag_of(self.host.directories.snapshots))
        self.path.parent.mkdir(exist_ok=True, parents=True)
        self.flag = Flag(FilePath(str(self.path)))
        self.entry = Entry(documents.NAME, documents.UUID, (self.flag,))

    def die(self) -> None:
        self.journal.remember(self.entry)
        self.path.touch()

    def test_journal(self) -> None:
        self.journal.remember(self.entry)
        self.assertEqual(self.entry, self.journal.recall(documents.UUID))
        self.assertFalse(self.entry.is_given_back)
        self.assertEqual((), self.entry.given_back().takings)

    def test_held_by_a_snapshot_that_lives(self) -> None:
        with self.flag.held(self.host.undo_tools()):
            self.assertTrue(self.path.exists())
        self.assertFalse(self.path.exists())

    def test_undo_that_is_refused(self) -> None:
        self.host.machine.refusals['isActive'] = undo.ATTEMPTS
        error = self.assertRaises(
            exception.UndoFailed,
            self.hold,
        )
        self.assertEqual('strike the flag', error.fields['undo'])

    def hold(self) -> None:
        with self.flag.held(self.host.undo_tools()):
            pass

    def test_healer(self) -> None:
        self.die()
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertEqual(
            ['strike the flag'], [step.what for step in outcome.steps]
        )
        self.assertFalse(self.path.exists())
        self.assertEqual([], self.host.differences(self.before))

    def test_healer_is_refused(self) -> None:
        self.die()
        self.journal.remember(self.entry.with_(Freeze()))
        self.host.guest().agent.freeze()
        self.host.machine.refusals['fsThaw'] = 1_000
        (outcome,) = self.host.healer().heal(self.host.context)
        self.assertEqual(
            ['thaw its file systems'], [step.what for step in outcome.steps]
        )
        self.assertEqual(
            self.entry.with_(Freeze()), self.journal.recall(documents.UUID)
        )
        self.host.machine.refusals.clear()
        self.host.healer().heal(self.host.context)
        self.assertEqual([], self.host.differences(self.before))
        self.assertFalse(self.path.exists())

    def test_rehearsal(self) -> None:
        self.die()
        result = self.command.run('recover', '--dry-run')
        self.assertIn('strike the flag', result.output)
        self.assertTrue(self.path.exists())

    def test_status(self) -> None:
        self.die()
        self.assertIn('flagged', self.command.run('status', '--all').output)
        result = self.command.run('status', '--all', '--format', 'json')
        (found,) = result.json['abandoned']
        self.assertEqual(
            [{'kind': 'flag', 'state': 'flagged', 'undo': 'strike the flag'}],
            found['takings'],
        )

    def test_laws(self) -> None:
        tools = self.host.undo_tools()
        self.assertEqual([], laws.suspicions(tools))
        self.path.touch()
        self.assertEqual(
            ['somebody has yet to strike the flag'], laws.suspicions(tools)
        )
        self.assertIn(
            'somebody has yet to strike the flag',
            self.host.differences(self.before),
        )


class KindsTest(testtools.TestCase):
    def test_each_has_a_name_of_its_own(self) -> None:
        names = [kind.KIND for kind in registry.KINDS]
        self.assertEqual(len(names), len(set(names)))

    def test_none_waits_for_one_that_comes_later(self) -> None:
        seen: set[str] = set()
        for kind in registry.KINDS:
            self.assertLessEqual(kind.AFTER, seen)
            seen.add(kind.KIND)

    def test_order_and_once(self) -> None:
        image, freeze = UnfinishedImage('image'), Freeze()
        self.assertEqual(
            (freeze, image), registry.in_order([image, freeze, Freeze()])
        )

    def test_as_json(self) -> None:
        for taking in ENTRY.takings:
            text = json.dumps(taking.to_json())
            self.assertEqual(taking, registry.from_json(json.loads(text)))

    def test_unknown(self) -> None:
        self.assertRaises(ValueError, registry.from_json, {'kind': 'none'})


class CodecTest(testtools.TestCase):
    def test_missing_field(self) -> None:
        self.assertRaises(ValueError, codec.built, Flag, {})

    def test_path(self) -> None:
        self.assertRaises(ValueError, codec.built, FilePath, 'relative')
        self.assertEqual('/a', codec.built(FilePath, '/a'))
