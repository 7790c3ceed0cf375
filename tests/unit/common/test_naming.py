# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import tempfile

import ddt
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common.naming import CHAIN_BITMAP as CHAIN
from tests.unit import tables

SUFFIX = '.0123abcd.part'


@ddt.ddt
class ForGlanceTest(testtools.TestCase):
    @tables.rows(
        {
            'plain': ('web-1', 'web-1'),
            'empty': ('', ''),
            'letters': ('снимок', 'снимок'),
            'emoji': ('web 🚀', 'web _'),
            'control': ('a\tb\x1b', 'a_b_'),
            'invisible': ('a\u200bb\u2028', 'a_b_'),
            'no_utf8': ('a\udcffb', 'a_b'),
            'long': ('n' * 300, 'n' * 255),
        }
    )
    def test_made_legal(self, text: str, legal: str) -> None:
        self.assertEqual(legal, naming.for_glance(text))

    @hypothesis.given(strategies.text(min_size=1))
    def test_never_refused(self, text: str) -> None:
        self.assertIsNone(naming.refusal(naming.for_glance(text)))


@ddt.ddt
class RefusalTest(testtools.TestCase):
    @tables.rows(
        {
            'empty': ('', 'empty'),
            'long': ('n' * 256, '256 characters'),
            'emoji': ('web 🚀', 'U\\+1F680'),
            'no_utf8': ('a\udcff', 'UTF-8'),
        }
    )
    def test_refused(self, name: str, why: str) -> None:
        self.assertRegex(str(naming.refusal(name)), why)

    @tables.rows(
        {
            'letters': ('снимок €',),
            # Bytes do not count.
            'long': ('я' * 255,),
            # A tab is legal, if not wise.
            'control': ('a\tb',),
        }
    )
    def test_taken(self, name: str) -> None:
        self.assertIsNone(naming.refusal(name))


@ddt.ddt
class DraftTest(testtools.TestCase):
    def test_short(self) -> None:
        self.assertRegex(
            naming.draft_of('/a/b', 255), r'^/a/b\.[0-9a-f]{8}\.part$'
        )

    def test_nobody_knows_it_before(self) -> None:
        self.assertEqual(
            20, len({naming.draft_of('/a/b', 255) for _ in range(20)})
        )

    @hypothesis.given(
        strategies.text(
            strategies.characters(exclude_characters='/\0', codec='utf-8'),
            min_size=1,
        ).filter(lambda name: len(name.encode()) <= 255)
    )
    @hypothesis.example('x' * 255)
    @hypothesis.example('я' * 127)
    @hypothesis.example('🚀' * 63)
    @hypothesis.example('\n')
    def test_a_file_system_takes_it(self, name: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = naming.draft_of(os.path.join(directory, name), 255)
            pathlib.Path(path).touch()
            (made,) = os.listdir(directory)
        self.assertTrue(naming.is_draft(path))
        self.assertTrue(name.startswith(made[: -len(SUFFIX)]))

    @tables.rows(
        {
            name: (name,)
            for name in (
                '/etc/passwd',
                f'/a/{SUFFIX}',
                f'/a/b{SUFFIX}/c',
                f'/a/b{SUFFIX}\n',
                '/a/b.0123abc.part',
                '/a/b.0123ABCD.part',
                '',
            )
        }
    )
    def test_none(self, path: str) -> None:
        self.assertFalse(naming.is_draft(path))


@ddt.ddt
class ChainBitmapTest(testtools.TestCase):
    def test_unique(self) -> None:
        names = {naming.new_bitmap(CHAIN) for _ in range(100)}
        self.assertEqual(100, len(names))
        for name in names:
            self.assertTrue(naming.is_bitmap(name, CHAIN))

    @tables.rows(
        {
            'of_libvirt': ('libvirt-1',),
            'prefix': ('nova-snapshot-chain-',),
            'counter': ('nova-snapshot-chain-1',),
            'more': (f'{naming.new_bitmap(CHAIN)}-2',),
            'line': (f'{naming.new_bitmap(CHAIN)}\n',),
            'within_xml': (f'{naming.new_bitmap(CHAIN)}<a/>',),
        }
    )
    def test_of_others(self, name: str) -> None:
        self.assertFalse(naming.is_bitmap(name, CHAIN))
