# SPDX-License-Identifier: Apache-2.0
"""The pages that the tests of a deployment follow, without a cloud."""

from __future__ import annotations

import itertools
import pathlib
import tempfile

import ddt
import testtools

from tests.openstack.deployment import commands
from tests.openstack.deployment import pages
from tests.openstack.deployment import rst
from tests.openstack.deployment.ini_file import IniFile
from tests.openstack.deployment.ini_file import parse
from tests.openstack.deployment.rst import Block
from tests.openstack.deployment.rst import Command
from tests.openstack.deployment.rst import Settings
from tests.unit import tables

FOLLOWED = {
    f'{block.section}: {number}': (block,)
    for number, block in enumerate(
        itertools.chain(pages.WAY_IN, *pages.WAY_BACK.values())
    )
}

PAGE = """\
Title
=====

A paragraph
of two lines::

    # /etc/nova/nova.conf
    [DEFAULT]
    a = 1

    # a comment
    first --option \\
        --more

Below
-----

A code block:

.. code-block:: ini

   [group]
   b = 2

.. code-block:: text

   INFO nothing to type
"""


@ddt.ddt
class PagesTest(testtools.TestCase):
    """A page has only what a test in the cloud does as it stands."""

    @tables.rows(FOLLOWED)
    def test_block(self, block: Block) -> None:
        self.assertNotEqual('', block.text)
        for step in block.steps:
            match step:
                case Command(line):
                    commands.translate(line)
                case Settings(text=text):
                    self.assertNotEqual([], list(parse(text)))

    def test_unknown_command(self) -> None:
        for line in (
            'yum install python3-libnbd',
            'sudo -u nova reboot',
            'systemctl stop nova-api',
        ):
            self.assertRaises(
                commands.UnknownCommand, commands.translate, line
            )

    def test_way_in_is_whole(self) -> None:
        """Each command of the short way is known by its kind."""
        actions = [
            type(commands.translate(step.line))
            for step in pages.IN_SHORT.steps
            if isinstance(step, Command)
        ]
        run = commands.Run
        self.assertEqual([run, run, run, commands.Restart], actions)


class ReaderTest(testtools.TestCase):
    def test_page(self) -> None:
        title, code, text = rst.read(PAGE)
        self.assertEqual('A paragraph of two lines::', title.words)
        self.assertEqual(
            [
                Settings('/etc/nova/nova.conf', '[DEFAULT]\na = 1'),
                Command('first --option --more'),
            ],
            list(title.steps),
        )
        self.assertEqual(('Below', 'ini'), (code.section, code.language))
        self.assertEqual([Settings('', '[group]\nb = 2')], list(code.steps))
        self.assertEqual([], list(text.steps))

    def test_words_that_no_block_has(self) -> None:
        self.assertRaises(
            LookupError, rst.find, 'install/deployment', 'no such words'
        )


class IniFileTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = IniFile(pathlib.Path(directory.name, 'a.conf'))
        self.file.path.write_text('# keep\n[a]\nx = 1\n[b]\nx = 2\n')

    def test_set(self) -> None:
        self.file.set('a', 'x', 3)
        self.file.set('b', 'y', 4)
        self.file.set('c', 'z', 5)
        self.assertEqual(
            '# keep\n[a]\nx = 3\n[b]\ny = 4\nx = 2\n[c]\nz = 5\n',
            self.file.path.read_text(),
        )
        self.assertEqual('3', self.file.get('a', 'x'))
        self.assertIsNone(self.file.get('a', 'y'))

    def test_remove(self) -> None:
        self.file.remove('a', 'x')
        self.assertEqual(
            '# keep\n[a]\n[b]\nx = 2\n', self.file.path.read_text()
        )
