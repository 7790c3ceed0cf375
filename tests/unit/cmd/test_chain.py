# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os

import ddt
import fixtures
import testtools
from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer import data_plane
from tests.unit import chains
from tests.unit import tables
from tests.unit.chain_files import DAMAGED
from tests.unit.chain_files import SIZE
from tests.unit.chain_files import ChainFiles
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result


class ChainCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        real = processutils.execute
        self.command = self.useFixture(CommandLine())
        self.command.no_libvirt = True
        # The images are real, unlike the host.
        self.useFixture(
            fixtures.MockPatchObject(processutils, 'execute', real)
        )
        self.files = self.useFixture(ChainFiles())
        for name in 'abc':
            self.files.add(name)
        self.image = self.files.root / 'image'

    def run_command(self, action: str, *arguments: str) -> Result:
        return self.command.run(
            'chain', action, str(self.files.path), *arguments
        )

    def as_json(self, action: str, *arguments: str) -> Result:
        return self.run_command(action, *arguments, '--format', 'json')


class ListTest(ChainCase):
    def test_in_words(self) -> None:
        result = self.run_command('list')
        self.assertEqual(0, result.status)
        for words in (f'vda of domain web-1 ({chains.UUID})', 'full', '3 MiB'):
            self.assertIn(words, result.output)
        rows = [line.split() for line in result.output.splitlines()]
        self.assertEqual(
            [*'abc'], [row[0] for row in rows if row and len(row[0]) == 1]
        )

    def test_words_of_a_stranger(self) -> None:
        """A terminal does what control characters in its input say."""
        path = self.files.path / 'c.json'
        record = json.loads(path.read_text())
        record['domain'] = record['reason'] = 'a\x1b]0;b\x07c'
        path.write_text(json.dumps(record))
        result = self.run_command('list')
        self.assertIn('a ]0;b c', result.output)
        self.assertNotIn('\x1b', result.output)

    def test_json(self) -> None:
        result = self.as_json('list')
        records = [record.to_dict() for record in self.files.chain.records()]
        self.assertEqual(json.loads(json.dumps(records)), result.json)

    def test_empty(self) -> None:
        path = self.files.root / 'empty'
        path.mkdir()
        result = self.command.run('chain', 'list', str(path))
        self.assertEqual(0, result.status)
        self.assertIn('no snapshot', result.output)
        # A look changes nothing.
        self.assertEqual([], os.listdir(path))

    def test_nothing_of_the_host_is_asked(self) -> None:
        self.run_command('list')
        self.assertEqual([], self.command.uris)


@ddt.ddt
class FailureTest(ChainCase):
    @tables.rows(
        {
            'list': (('list',),),
            'verify': (('verify',),),
            'restore': (('restore', 'a', 'image'),),
            'prune': (('prune', '--keep', '1'),),
        }
    )
    def test_no_such_directory(self, arguments: tuple[str, ...]) -> None:
        action, *others = arguments
        result = self.command.run(
            *('chain', action, str(self.files.root / 'none'), *others),
            *('--format', 'json'),
        )
        self.assertEqual(1, result.status)
        self.assertEqual('chain-unusable', result.json['error']['code'])

    @tables.rows(
        {
            'no_action': ((),),
            'unknown_action': (('merge', 'DIR'),),
            'no_directory': (('list',),),
            'no_number': (('prune', 'DIR'),),
            'none_to_keep': (('prune', 'DIR', '--keep', '0'),),
            'less_than_none': (('prune', 'DIR', '--keep', '-1'),),
            'no_file': (('restore', 'DIR', 'a'),),
            'another_format': (
                ('restore', 'DIR', 'a', 'b', '--image-format', 'vmdk'),
            ),
        }
    )
    def test_wrong_arguments(self, arguments: tuple[str, ...]) -> None:
        error = self.assertRaises(
            SystemExit, self.command.run, 'chain', *arguments
        )
        self.assertEqual(2, error.code)


class VerifyTest(ChainCase):
    def test_intact(self) -> None:
        result = self.run_command('verify')
        self.assertEqual(0, result.status)
        self.assertEqual(
            [
                'SUCCESS  a: as it was when it was captured',
                'SUCCESS  b: as it was when it was captured',
                'SUCCESS  c: as it was when it was captured',
                '3 verified, 0 damaged',
            ],
            result.output.splitlines(),
        )

    def test_damaged(self) -> None:
        self.files.damage('b')
        result = self.as_json('verify', 'a', 'b')
        self.assertEqual(1, result.status)
        self.assertEqual(
            [
                {
                    'name': 'a',
                    'intact': True,
                    'damaged': 0,
                    'offsets': [],
                    'error': None,
                },
                {
                    'name': 'b',
                    'intact': False,
                    'damaged': 1,
                    'offsets': [DAMAGED],
                    'error': None,
                },
            ],
            result.json,
        )

    def test_damaged_in_words(self) -> None:
        self.files.damage('c')
        result = self.run_command('verify')
        self.assertEqual(1, result.status)
        self.assertIn(f'these offsets on: {DAMAGED}', result.output)
        self.assertIn('3 verified, 1 damaged', result.output)

    def test_unreadable(self) -> None:
        (self.files.path / 'a.leaves').write_bytes(b'')
        result = self.as_json('verify', 'a')
        self.assertEqual(1, result.status)
        (found,) = result.json
        self.assertFalse(found['intact'])
        self.assertIsNone(found['damaged'])
        self.assertEqual('leaves-damaged', found['error']['code'])
        self.assertIn(
            'FAILURE  a: The hashes', self.run_command('verify').output
        )

    def test_unknown(self) -> None:
        result = self.as_json('verify', 'd')
        self.assertEqual(1, result.status)
        self.assertEqual(
            'chain-snapshot-not-found', result.json['error']['code']
        )

    def test_interrupted(self) -> None:
        def run(*_arguments: object) -> None:
            raise exception.Cancelled(reason='SIGINT')

        self.patch(data_plane, 'run', run)
        self.assertEqual(130, self.run_command('verify').status)


class RestoreTest(ChainCase):
    def test_raw(self) -> None:
        result = self.as_json(
            'restore', 'b', str(self.image), '--image-format', 'raw'
        )
        self.assertEqual(0, result.status)
        self.assertEqual(
            {
                'name': 'b',
                'domain': 'web-1',
                'created': '2026-12-01T02:07:11Z',
                'file': str(self.image),
                'format': 'raw',
                'size': SIZE,
            },
            result.json,
        )
        self.assertEqual(self.files.contents['b'], self.image.read_bytes())

    def test_in_words(self) -> None:
        result = self.run_command('restore', 'c', str(self.image))
        self.assertEqual(0, result.status)
        for words in ('c of domain web-1', 'qcow2', 'bytes'):
            self.assertIn(words, result.output)

    def test_file_that_is_there(self) -> None:
        self.image.write_text('mine')
        result = self.as_json('restore', 'c', str(self.image))
        self.assertEqual(1, result.status)
        self.assertEqual('output-exists', result.json['error']['code'])
        self.assertEqual('mine', self.image.read_text())

    def test_file_that_can_not_be(self) -> None:
        result = self.as_json('restore', 'c', str(self.image) + 'n' * 300)
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('output-unusable', error['code'])
        self.assertIn('option FILE', error['message'])


class PruneTest(ChainCase):
    def test_in_words(self) -> None:
        result = self.run_command('prune', '--keep', '2')
        self.assertEqual(0, result.status)
        rows = dict(
            line.split(maxsplit=1)
            for line in result.output.replace('Full now', 'Full').splitlines()
            if line.strip()
        )
        self.assertEqual(
            {'Removed': 'a', 'Kept': 'b, c', 'Full': 'b'},
            {name: rows[name].strip() for name in rows},
        )
        self.assertEqual(['b', 'c'], self.files.names())

    def test_json(self) -> None:
        result = self.as_json('prune', '--keep', '1')
        self.assertEqual(
            {'removed': ['a', 'b'], 'kept': ['c'], 'merged': 'c'}, result.json
        )

    def test_nothing(self) -> None:
        result = self.as_json('prune', '--keep', '3')
        self.assertEqual(0, result.status)
        self.assertEqual(
            {'removed': [], 'kept': ['a', 'b', 'c'], 'merged': None},
            result.json,
        )

    def test_limits_of_the_configuration(self) -> None:
        """The jobs yield to others as the operator wants."""
        self.command.config.write_text('[snapshot]\nbandwidth = 7\n')
        seen = []
        real = data_plane.run

        def run(job: object, limits: object, *others: object) -> object:
            seen.append(limits)
            return real(job, limits, *others)  # type: ignore[arg-type]

        self.useFixture(fixtures.MockPatchObject(data_plane, 'run', run))
        self.run_command('prune', '--keep', '2')
        self.assertEqual(
            {7 << 20},
            {limits.bandwidth for limits in seen},  # type: ignore[attr-defined]
        )
