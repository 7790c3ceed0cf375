# SPDX-License-Identifier: Apache-2.0

import contextlib
import io
import sys

import testtools

from tools import lint


def linter(code: str, remedy: str, takes_files: bool = True) -> lint.Linter:
    """A linter that is a line of Python."""
    return lint.Linter(
        (sys.executable, '-c', f'import sys; {code}'),
        remedy,
        takes_files,
        everything=('everything',),
    )


IS_CONTENT = 'sys.exit(0)'
FINDS = 'sys.exit(1)'
FINDS_FILES = "sys.exit(sys.argv[1:] == ['a.py', 'b.py'])"
FINDS_EVERYTHING = "sys.exit(sys.argv[1:] == ['everything'])"


class MainTest(testtools.TestCase):
    def lint(
        self, *linters: lint.Linter, files: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = lint.main(files, linters)
        return status, output.getvalue()

    def test_nothing_is_found(self) -> None:
        self.assertEqual((0, ''), self.lint(linter(IS_CONTENT, 'mend it')))

    def test_remedy_of_each_that_has_found_something(self) -> None:
        status, output = self.lint(
            linter(FINDS, 'mend this'),
            linter(IS_CONTENT, 'mend that'),
            linter(FINDS, 'mend the rest'),
        )
        self.assertEqual(1, status)
        self.assertIn(': mend this.', output)
        self.assertNotIn('mend that', output)
        self.assertIn(': mend the rest.', output)

    def test_everything(self) -> None:
        self.assertEqual(1, self.lint(linter(FINDS_EVERYTHING, ''))[0])

    def test_files(self) -> None:
        files = ('a.py', 'b.py')
        self.assertEqual(1, self.lint(linter(FINDS_FILES, ''), files=files)[0])

    def test_files_are_not_for_all(self) -> None:
        whole = linter(FINDS_EVERYTHING, '', takes_files=False)
        self.assertEqual(1, self.lint(whole, files=('a.py',))[0])
