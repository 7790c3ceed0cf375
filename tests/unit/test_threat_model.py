# SPDX-License-Identifier: Apache-2.0
"""Each promise of the documentation has a test."""

from __future__ import annotations

import ast
import pathlib
import re

import ddt
import testtools

from tests.unit import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / 'doc' / 'source'
SECURITY = PAGES / 'admin' / 'security.rst'

TEST = re.compile(r':test:`([^`]+)`')


def named_in(text: str) -> list[str]:
    return TEST.findall(text)


def exists(name: str) -> bool:
    """Whether there is such a module, and in it such a class and method."""
    path, parts = ROOT / 'tests', name.split('.')
    while parts and path.is_dir():
        path /= parts.pop(0)
    module = path.with_suffix('.py')
    if not module.is_file():
        return False
    found: ast.AST | None = ast.parse(module.read_text())
    for part in parts:
        found = next(
            (
                each
                for each in getattr(found, 'body', [])
                if isinstance(each, ast.ClassDef | ast.FunctionDef)
                and each.name == part
            ),
            None,
        )
    return found is not None


def rows() -> list[str]:
    """The rows of the table of what keeps one from another."""
    section = SECURITY.read_text().split('What keeps one from another')[1]
    table = re.split(r'^Who can read what', section, flags=re.MULTILINE)[0]
    return re.split(r'^   \* - ', table, flags=re.MULTILINE)[2:]


@ddt.ddt
class PromisesTest(testtools.TestCase):
    @tables.rows(
        {
            str(page.relative_to(PAGES)): (page,)
            for page in PAGES.rglob('*.rst')
        }
    )
    def test_what_a_page_names_exists(self, page: pathlib.Path) -> None:
        named = named_in(page.read_text())
        self.assertEqual([], [name for name in named if not exists(name)])

    def test_page_names_some(self) -> None:
        self.assertGreater(len(named_in(SECURITY.read_text())), 20)

    def test_every_promise_has_a_test(self) -> None:
        found = rows()
        self.assertGreater(len(found), 5)
        self.assertEqual([], [row for row in found if not named_in(row)])

    def test_what_is_missing_is_told(self) -> None:
        module = 'unit.test_threat_model'
        for name in (module, f'{module}.PromisesTest'):
            self.assertTrue(exists(name))
            self.assertFalse(exists(f'{name}.test_none'))
        self.assertFalse(exists('unit.test_none'))
        self.assertFalse(exists('unit'))
