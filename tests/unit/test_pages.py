# SPDX-License-Identifier: Apache-2.0
"""The pages at the top of the checkout name only paths that are there."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys

import ddt
import testtools

from tests.unit import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]

PAGES = (
    'AGENTS.md',
    'CONTRIBUTING.rst',
    'HACKING.rst',
    'README.rst',
    'RELEASING.rst',
    'SECURITY.rst',
    'doc/source/contributor/how-to-add.rst',
)

#: A path from the top, or from the package, with a directory in it.
PATH = re.compile(r'`((?:[\w.-]+/)+[\w.-]*)`')


#: The folders of what is built and installed, which a fresh checkout lacks.
MADE = ('doc/build/', 'share/nova-snapshot-driver')

#: The title of a page, as the first one names it.
PAGE_TITLE = re.compile(r'\bpages? \*([^*]+)\*')


def is_there(path: str) -> bool:
    return path.startswith(MADE) or any(
        (top / path).exists() for top in (ROOT, ROOT / 'nova_snapshot_driver')
    )


@ddt.ddt
class PagesTest(testtools.TestCase):
    @tables.rows({page: (page,) for page in PAGES})
    def test_what_a_page_names_is_there(self, page: str) -> None:
        named = PATH.findall((ROOT / page).read_text())
        self.assertEqual([], [path for path in named if not is_there(path)])

    def test_package_index_shows_the_first_one(self) -> None:
        """An index has nothing beside it: neither a picture nor a page."""
        readme = (ROOT / 'README.rst').read_text()
        self.assertNotIn('.. image::', readme)
        self.assertNotRegex(readme, r'\.rst\b|``(doc|etc)/')

    def test_pages_that_the_first_one_names_are_there(self) -> None:
        readme = ' '.join((ROOT / 'README.rst').read_text().split())
        named = PAGE_TITLE.findall(readme)
        self.assertEqual(3, len(named))
        titles = {
            next(line for line in page.read_text().splitlines()[1:] if line)
            for page in (ROOT / 'doc/source').rglob('*.rst')
        }
        self.assertEqual(set(), set(named) - titles)

    def test_index_names_much(self) -> None:
        named = PATH.findall((ROOT / 'AGENTS.md').read_text())
        self.assertGreater(len(named), 20)


class OneTestTest(testtools.TestCase):
    """The command that runs one test alone."""

    COMMAND = re.compile(
        r'\.venv/bin/python (-m testtools\.run .+?)\n\n', re.S
    )

    def test_it_runs_one_test(self) -> None:
        page = (ROOT / 'doc/source/contributor/testing.rst').read_text()
        found = self.COMMAND.search(page)
        assert found is not None
        ended = subprocess.run(
            [sys.executable, *shlex.split(found[1].replace('\\\n', ''))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertIn('Ran 1 test', ended.stdout, ended.stderr)
        self.assertEqual(0, ended.returncode)
