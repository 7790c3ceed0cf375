# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.chain import prune
from nova_snapshot_driver.chain.prune import Pruned
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.transfer import data_plane
from tests.unit import tables
from tests.unit.chain_files import WORKER
from tests.unit.chain_files import ChainFiles

#: The exit status of a process that was killed.
KILLED = 9

#: The steps before which a process may die: changes to files, and jobs.
STEPS = (
    (Directory, 'rename'),
    (Directory, 'remove'),
    (Directory, 'write'),
    (Directory, 'sync'),
    (data_plane, 'run'),
)


class PruneCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.files = self.useFixture(ChainFiles())

    def prune(self, keep: int) -> Pruned:
        return prune.prune(self.files.chain, keep, WORKER)

    def assert_pruned(self, *names: str) -> None:
        """Whether these are left, and nothing else."""
        self.assertEqual([*names], self.files.names())
        for name in names:
            self.files.assert_readable(name)
        self.assertEqual(
            {
                f'{name}.{suffix}'
                for name in names
                for suffix in ('qcow2', 'json', 'leaves')
            },
            {each for each in os.listdir(self.files.path) if each[0] != '.'},
        )


@ddt.ddt
class PruneTest(PruneCase):
    def test_oldest_go(self) -> None:
        for name in 'abcd':
            self.files.add(name)
        before = self.files.chain.record('c')
        self.assertEqual(Pruned(('a', 'b'), ('c', 'd'), 'c'), self.prune(2))
        self.assert_pruned('c', 'd')
        after = self.files.chain.record('c')
        self.assertEqual(
            (None, Way.FULL, prune.MERGED),
            (after.parent, after.way, after.reason),
        )
        self.assertEqual(
            (before.tree, before.bitmap, before.changed, before.created),
            (after.tree, after.bitmap, after.changed, after.created),
        )
        self.assertEqual(
            (self.files.path / 'c.qcow2').stat().st_size, after.written
        )
        self.assertEqual('c', self.files.chain.record('d').parent)

    def test_goes_on_afterwards(self) -> None:
        for name in 'abc':
            self.files.add(name)
        self.prune(1)
        self.files.add('d')
        self.assert_pruned('c', 'd')
        self.prune(1)
        self.assert_pruned('d')

    @tables.rows({'all': (3,), 'more': (9,)})
    def test_nothing_to_do(self, keep: int) -> None:
        for name in 'abc':
            self.files.add(name)
        self.assertEqual(Pruned((), ('a', 'b', 'c'), None), self.prune(keep))
        self.assert_pruned('a', 'b', 'c')

    def test_empty_chain(self) -> None:
        self.assertEqual(Pruned((), (), None), self.prune(1))

    def test_full_one_in_the_middle(self) -> None:
        """Nothing has to be merged."""
        for name, full in (('a', True), ('b', False), ('c', True)):
            self.files.add(name, full)
        self.assertEqual(Pruned(('a', 'b'), ('c',), None), self.prune(1))
        self.assert_pruned('c')

    def test_without_leaves(self) -> None:
        for name in 'ab':
            self.files.add(name)
        (self.files.path / 'b.leaves').unlink()
        self.prune(1)
        self.files.assert_readable('b')
        self.assertEqual(['b'], self.files.names())

    @tables.rows({'to_merge': ('b',), 'beneath': ('a',)})
    def test_damaged(self, name: str) -> None:
        """An image is not replaced by one with another content."""
        for each in 'abc':
            self.files.add(each)
        self.files.damage(name)
        before = {p: p.read_bytes() for p in self.files.path.glob('[!.]*')}
        self.assertRaises(exception.DiskDamaged, self.prune, 2)
        self.assertEqual(
            before,
            {p: p.read_bytes() for p in self.files.path.glob('[!.]*')},
        )

    def test_failure_leaves_no_draft(self) -> None:
        for name in 'ab':
            self.files.add(name)

        def run(*_arguments: object) -> None:
            (self.files.path / 'b.qcow2.draft').write_bytes(b'half')
            raise exception.FileUnwritable(path='b', reason='full')

        self.patch(data_plane, 'run', run)
        self.assertRaises(exception.FileUnwritable, self.prune, 1)
        self.assert_pruned('a', 'b')


class DeathTest(PruneCase):
    """A process that is killed before any of its steps."""

    def die_before(self, victim: int) -> None:
        """Have this process die before one of its steps."""
        steps = itertools.count(1)

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **named: Any) -> Any:
                if next(steps) == victim:
                    os._exit(KILLED)
                return real(*arguments, **named)

            return step

        for where, name in STEPS:
            self.useFixture(
                fixtures.MockPatchObject(
                    where, name, wrapped(getattr(where, name))
                )
            )

    def is_killed(self, victim: int) -> bool:
        """Prune in a process of its own, which is killed before a step.

        :returns: whether it came to that step
        """
        child = os.fork()
        if not child:
            try:
                self.die_before(victim)
                self.prune(2)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        self.assertIn(code, (0, KILLED))
        return code == KILLED

    def test_every_step(self) -> None:
        for name in 'abcd':
            self.files.add(name)
        template = self.files.root / 'template'
        shutil.copytree(self.files.path, template)
        victim = 1
        while self.is_killed(victim):
            # All that has a record can be read.
            for name in self.files.names():
                self.files.assert_readable(name)
            self.assertLessEqual({'c', 'd'}, {*self.files.names()})
            self.prune(2)
            self.assert_pruned('c', 'd')
            victim += 1
            shutil.copytree(template, self.files.path, dirs_exist_ok=True)
        # Two jobs, the names and the records of three snapshots, and more.
        self.assertGreater(victim, 12)
