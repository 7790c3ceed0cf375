# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.state import chain as chain_module
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord
from tests.unit import chains
from tests.unit import tables
from tests.unit.transfer import disks

INSTANT = datetime.datetime(2026, 12, 1, 2, 7, 11, tzinfo=datetime.UTC)

#: Holds a lock of a chain in another process, until its input ends.
HOLDER = """
import sys
from nova_snapshot_driver.state.chain import Chain
with Chain.open(sys.argv[1]) as chain, getattr(chain, sys.argv[2])():
    print('held', flush=True)
    sys.stdin.read()
"""


class ChainCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        temporary = self.useFixture(fixtures.TempDir()).path
        self.path = pathlib.Path(temporary) / 'chain'
        self.path.mkdir(0o700)
        self.chain = self.enter(Chain.open(str(self.path)))

    def enter(self, context: Any) -> Any:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(context)

    def image(self, path: str, backing: str | None) -> None:
        beneath = ['-u', '-F', 'qcow2', '-b', backing] if backing else []
        disks.run(
            *('qemu-img', 'create', '-q', '-f', 'qcow2', *beneath),
            *(path, '1M'),
        )

    def add(self, name: str, number: int = 1, **fields: Any) -> ChainRecord:
        """Have a snapshot written and published."""
        record = chains.record(name, number, **fields)
        parent = fields.get('parent')
        self.image(
            self.chain.image_draft(name), f'{parent}.qcow2' if parent else None
        )
        pathlib.Path(self.chain.leaves_draft(name)).touch()
        self.chain.publish(record)
        return record

    def three(self) -> list[ChainRecord]:
        return [
            self.add('a'),
            self.add('b', 2, parent='a'),
            self.add('c', 3, parent='b'),
        ]

    def names(self) -> set[str]:
        return {each for each in os.listdir(self.path) if each[0] != '.'}

    def rewrite(self, snapshot: str, **changes: Any) -> None:
        """Change fields of a record, behind the back of the chain."""
        path = self.path / f'{snapshot}.json'
        fields = json.loads(path.read_text())
        path.write_text(json.dumps({**fields, **changes}))


@ddt.ddt
class ChainTest(ChainCase):
    def test_created_for_this_user_alone(self) -> None:
        path = self.path / 'new'
        with Chain.open_or_create(str(path)) as chain:
            self.assertEqual(0o700, path.stat().st_mode & 0o777)
            self.assertIsNone(chain.newest())
            self.assertEqual(1, chain.next_number())
        with Chain.open_or_create(str(path)):
            pass

    @tables.rows({'missing': ('none',), 'no_parent': ('none/new',)})
    def test_unusable(self, name: str) -> None:
        with testtools.ExpectedException(exception.ChainUnusable, '.*none.*'):
            Chain.open(str(self.path / name)).__enter__()

    def test_no_directory_above(self) -> None:
        with testtools.ExpectedException(exception.ChainUnusable, '.*none.*'):
            Chain.open_or_create(str(self.path / 'none/new')).__enter__()

    def test_others_write_there(self) -> None:
        self.path.chmod(0o777)
        with testtools.ExpectedException(exception.ChainUnusable, '.*chmod.*'):
            Chain.open(str(self.path)).__enter__()

    def test_published(self) -> None:
        a, b, c = self.three()
        self.assertEqual([a, b, c], self.chain.records())
        self.assertEqual(c, self.chain.newest())
        self.assertEqual(b, self.chain.record('b'))
        self.assertEqual(4, self.chain.next_number())
        self.assertTrue(self.chain.has_leaves('a'))
        self.assertEqual(
            {
                f'{name}.{suffix}'
                for name in 'abc'
                for suffix in ('qcow2', 'leaves', 'json')
            },
            self.names(),
        )

    def test_order_is_not_that_of_the_clock(self) -> None:
        self.add('z', created='2026-12-01T00:00:00Z')
        self.add('a', 2, parent='z', created='2026-11-30T00:00:00Z')
        newest = self.chain.newest()
        assert newest is not None
        self.assertEqual('a', newest.name)

    def test_full_one_is_due(self) -> None:
        self.useFixture(fixtures.MockPatchObject(chain_module, 'LONGEST', 3))
        self.assertFalse(self.chain.is_full_due())
        self.three()
        self.assertTrue(self.chain.is_full_due())
        self.add('d', 4)
        self.assertFalse(self.chain.is_full_due())

    def test_unknown_name(self) -> None:
        self.add('a')
        with testtools.ExpectedException(exception.ChainSnapshotNotFound):
            self.chain.record('b')

    def test_is_of_one_disk(self) -> None:
        self.chain.see_is_of(chains.UUID, 'vdb')
        self.add('a')
        self.chain.see_is_of(chains.UUID, 'vda')
        for uuid, disk in (
            (chains.UUID, 'vdb'),
            (chains.UUID.replace('8', '9'), 'vda'),
        ):
            with testtools.ExpectedException(exception.ChainForeign):
                self.chain.see_is_of(uuid, disk)

    def test_unused_name(self) -> None:
        first = self.chain.unused_name(INSTANT)
        self.assertEqual('20261201T020711Z', first)
        self.add(first)
        self.assertEqual(f'{first}-2', self.chain.unused_name(INSTANT))

    def test_names(self) -> None:
        self.chain.see_is_unused('b')
        # A file of a user is not overwritten.
        (self.path / 'b.qcow2').touch()
        for name in ('b', 'a/b', '-a'):
            with testtools.ExpectedException(exception.ChainNameRefused):
                self.chain.see_is_unused(name)

    def test_layers(self) -> None:
        a, _, c = self.three()
        path = str(self.path)
        bottom = Layer(f'{path}/a.qcow2', 'qcow2', is_last=True)
        middle = Layer(f'{path}/b.qcow2', 'qcow2', backing=bottom)
        self.assertEqual(bottom, self.chain.layer(a))
        self.assertEqual(
            Layer(f'{path}/c.qcow2', 'qcow2', backing=middle),
            self.chain.layer(c),
        )

    def test_image_is_merged_and_its_record_does_not_say_so(self) -> None:
        _, b, c = self.three()
        self.image(self.chain.image_draft('b'), None)
        self.chain.replace_image(b)
        layer = self.chain.layer(c)
        assert layer.backing is not None
        self.assertTrue(layer.backing.is_last)

    @tables.rows(
        {
            'file_of_the_host': ('/etc/passwd', 'qcow2'),
            'other_file': ('other.qcow2', 'qcow2'),
            'other_format': ('a.qcow2', 'raw'),
            'protocol': ('nbd://host/a.qcow2', 'qcow2'),
        }
    )
    def test_header_that_names_another_file(
        self, backing: str, backing_format: str
    ) -> None:
        _, b, _ = self.three()
        disks.run(
            *('qemu-img', 'rebase', '-u', '-f', 'qcow2'),
            *('-F', backing_format, '-b', backing, str(self.path / 'b.qcow2')),
        )
        with testtools.ExpectedException(
            exception.ChainBroken, f'.*at b: .*{backing}.*'
        ):
            self.chain.layer(b)

    def test_full_one_with_a_backing_file(self) -> None:
        a = self.add('a')
        disks.run(
            *('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw'),
            *('-b', '/etc/passwd', str(self.path / 'a.qcow2')),
        )
        with testtools.ExpectedException(exception.ChainBroken):
            self.chain.layer(a)


@ddt.ddt
class BrokenTest(ChainCase):
    """A directory into which somebody else has put something."""

    @tables.rows(
        {
            'no_json': ('{', 'b', '.*record.*'),
            'list': ('[]', 'b', '.*no record.*'),
            'deep': ('[' * 9999, 'b', '.*record.*'),
            'large': (' ' * (1 << 17), 'b', '.*longer.*'),
            'no_utf8': (b'\xff', 'b', '.*record.*'),
        }
    )
    def test_content(self, content: Any, name: str, why: str) -> None:
        self.three()
        path = self.path / f'{name}.json'
        path.write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        with testtools.ExpectedException(exception.ChainBroken, why):
            self.chain.records()

    @tables.rows(
        {
            'name': ({'name': 'c'}, '.*another name.*'),
            'number': ({'number': 1}, '.*one number.*'),
            'disk': ({'disk': 'vdb'}, '.*another disk.*'),
            'missing_parent': ({'parent': 'd'}, '.*d, which it needs.*'),
            'later_parent': ({'parent': 'c'}, '.*c, which it needs.*'),
            'itself': ({'parent': 'b'}, '.*b, which it needs.*'),
        }
    )
    def test_fields(self, changes: dict[str, Any], why: str) -> None:
        self.three()
        self.rewrite('b', **changes)
        with testtools.ExpectedException(exception.ChainBroken, why):
            self.chain.records()

    def test_missing_image(self) -> None:
        self.three()
        (self.path / 'b.qcow2').unlink()
        with testtools.ExpectedException(
            exception.ChainBroken, '.*b.qcow2 is missing.*'
        ):
            self.chain.records()

    def test_record_is_a_link(self) -> None:
        self.three()
        path = self.path / 'b.json'
        path.rename(self.path / 'elsewhere')
        path.symlink_to('elsewhere')
        with testtools.ExpectedException(
            exception.ChainBroken, '.*it is no file.*'
        ):
            self.chain.records()

    def test_nothing_of_a_broken_chain_is_removed(self) -> None:
        self.three()
        (self.path / 'b.json').unlink()
        before = self.names()
        with testtools.ExpectedException(exception.ChainBroken):
            self.chain.locked().__enter__()
        self.assertEqual(before, self.names())


@ddt.ddt
class LockTest(ChainCase):
    @contextlib.contextmanager
    def held(self, method: str) -> Iterator[None]:
        with subprocess.Popen(
            [sys.executable, '-c', HOLDER, str(self.path), method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdin is not None and holder.stdout is not None
            self.assertEqual(b'held\n', holder.stdout.readline())
            yield
            holder.stdin.close()

    @tables.rows(
        {
            'two_writers': ('locked', 'locked', True),
            'writer_and_reader': ('locked', 'reading', False),
            'reader_and_writer': ('reading', 'locked', False),
            'two_readers': ('reading', 'reading', False),
            'reader_and_pruner': ('reading', 'locked_against_readers', True),
            'pruner_and_reader': ('locked_against_readers', 'reading', True),
            'writer_and_pruner': ('locked', 'locked_against_readers', True),
        }
    )
    def test_keeps_out(self, first: str, second: str, busy: bool) -> None:
        with self.held(first):
            context = getattr(self.chain, second)()
            if busy:
                with testtools.ExpectedException(exception.ChainBusy):
                    context.__enter__()
            else:
                with context:
                    pass
        with getattr(self.chain, second)():
            pass

    def test_leftovers(self) -> None:
        """The remains of dead processes go, and files of a user stay."""
        self.three()
        kept = self.names() | {'mine.qcow2', 'notes.draft'}
        for name in (
            *('mine.qcow2', 'notes.draft'),
            *('d.qcow2.draft', 'd.leaves.draft'),
            'd.json.0123456789abcdef.draft',
            # The files that were about to get a record, or have lost theirs.
            *('e.qcow2', 'e.leaves', 'f.leaves'),
        ):
            (self.path / name).touch()
        with self.chain.locked():
            self.assertEqual(kept, self.names())

    def test_reading_needs_nothing_written(self) -> None:
        """A chain on a medium that is mounted read-only."""
        self.three()
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.common.private_files.Directory'
                '.is_read_only',
                True,
            )
        )
        with self.chain.reading():
            self.assertFalse((self.path / '.read.lock').exists())

    def test_discarded(self) -> None:
        self.add('a')
        pathlib.Path(self.chain.image_draft('b')).touch()
        pathlib.Path(self.chain.leaves_draft('b')).touch()
        self.chain.discard_drafts('b')
        self.chain.discard_drafts('b')
        self.assertEqual({'a.qcow2', 'a.leaves', 'a.json'}, self.names())

    def test_removed(self) -> None:
        *_, c = self.three()
        self.chain.remove(c)
        self.assertEqual(['a', 'b'], [r.name for r in self.chain.records()])
        self.assertEqual(6, len(self.names()))
