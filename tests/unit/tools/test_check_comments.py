# SPDX-License-Identifier: Apache-2.0

import contextlib
import io
import pathlib
import tempfile

import ddt
import testtools

from tests.unit.tables import rows
from tools import check_comments

FOUND = {
    'pronoun': ('# It is polled.\n', 1, 'It'),
    'possessive': ('# Its owner is root.\n', 1, 'Its'),
    'relative': ('# What is left of it.\n', 1, 'What'),
    'person': ('# Whoever asks gets it.\n', 1, 'Whoever'),
    'reference': ('# The same, of a file.\n', 1, 'The same'),
    'determiner_alone': ('# Another one is asked.\n', 1, 'Another one'),
    'verb_after_it': ('# Some are left.\n', 1, 'Some are'),
    'after_code': ('x = 1  # that of a file\n', 1, 'that'),
    'of_a_variable': ('x = 1\n#: those of a file\ny = 2\n', 2, 'those'),
    'module': ('"""What a file holds."""\n', 1, 'What'),
    'class': ('class A:\n    """That of a file."""\n', 2, 'That'),
    'function': ('def f():\n    """It is polled."""\n', 2, 'It'),
    'async': ('async def f():\n    """It is polled."""\n', 2, 'It'),
    'line_below': ('def f():\n    """\n    It is polled.\n    """\n', 2, 'It'),
    'second_block': ('# A file.\n\n# It is new.\n', 3, 'It'),
    'other_indent': ('if x:\n    # A file.\n    pass\n# It ends.\n', 4, 'It'),
}

PASSED = {
    'noun': ('# The owner is root.\n',),
    'verb': ('# Ask the owner first.\n',),
    'predicate': ('def f():\n    """Whether the file is new."""\n',),
    'determiner': ('# Another process holds the lock.\n',),
    'continuation': ('# The lock is free once\n# it was released.\n',),
    'string': ('x = "# It is text."\n',),
    'text': ('x = """It is no docstring."""\n',),
    'longer_word': ('# Item by item.\n',),
    'mark': ('x = 1  # noqa: S105\n',),
    'empty': ('#\n',),
}


@ddt.ddt
class CheckTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = tempfile.TemporaryDirectory()
        self.addCleanup(root.cleanup)
        self.file = pathlib.Path(root.name) / 'folder' / 'module.py'
        self.file.parent.mkdir()

    def run_check(self, *arguments: str) -> tuple[int, str]:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            status = check_comments.main(list(arguments))
        return status, output.getvalue()

    @rows(FOUND)
    def test_found(self, source: str, line: int, beginning: str) -> None:
        self.file.write_text(source)
        self.assertEqual(
            [(line, beginning)],
            [
                (finding.line, finding.beginning)
                for finding in check_comments.check(self.file)
            ],
        )

    @rows(PASSED)
    def test_passed(self, source: str) -> None:
        self.file.write_text(source)
        self.assertEqual([], check_comments.check(self.file))

    def test_in_the_order_of_lines(self) -> None:
        self.file.write_text('# It is new.\ndef f():\n    """It asks."""\n')
        self.assertEqual(
            [1, 3],
            [found.line for found in check_comments.check(self.file)],
        )

    def test_folder(self) -> None:
        self.file.write_text('# It is new.\n')
        status, output = self.run_check(str(self.file.parent.parent))
        self.assertEqual(1, status)
        self.assertIn(f'{self.file}:1: begins with "It"', output)
        self.assertIn('begin with the noun, or with a verb', output)

    def test_nothing_found(self) -> None:
        self.file.write_text('# The file is new.\n')
        self.assertEqual((0, ''), self.run_check(str(self.file)))
