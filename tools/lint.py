# SPDX-License-Identifier: Apache-2.0
"""Runs every linter of style, and says how to mend what each has found.

The arguments are Python files; without any, all of the project is checked.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Linter:
    """A command that fails if it finds something.

    :ivar remedy: how to mend what it finds
    :ivar takes_files: Python files may be its arguments
    :ivar everything: its arguments where no file is given
    """

    command: tuple[str, ...]
    remedy: str
    takes_files: bool = True
    everything: tuple[str, ...] = ()

    def run(self, files: Sequence[str]) -> bool:
        """Check the files, or everything.

        :returns: whether nothing was found
        """
        chosen = files if files and self.takes_files else self.everything
        return not subprocess.call([*self.command, *chosen])  # noqa: S603


LINTERS = (
    Linter(
        ('ruff', 'check'),
        '"make format" mends what needs no thought; ".tox/pep8/bin/ruff rule '
        'CODE" explains the rest',
        everything=('.',),
    ),
    Linter(('ruff', 'format', '--check'), '"make format"', everything=('.',)),
    Linter(
        ('flake8',),
        'https://docs.openstack.org/hacking/latest/user/hacking.html explains '
        'each code that begins with H',
    ),
    Linter(
        ('codespell',),
        '".tox/pep8/bin/codespell -w" corrects the words; name one that is '
        'right in ignore-words-list of [tool.codespell] in pyproject.toml',
        takes_files=False,
    ),
    Linter(
        ('python', 'tools/check_comments.py'),
        'begin each comment with a noun or a verb: it is read alone',
    ),
    Linter(
        ('sphinx-lint',),
        'mend the markup in the line that is named; '
        '".tox/pep8/bin/sphinx-lint --list" explains the check in parentheses',
        takes_files=False,
        everything=(
            'README.rst',
            'SECURITY.rst',
            'CONTRIBUTING.rst',
            'HACKING.rst',
            'RELEASING.rst',
            'doc/source',
        ),
    ),
)


def main(files: Sequence[str], linters: Sequence[Linter] = LINTERS) -> int:
    failed = [linter for linter in linters if not linter.run(files)]
    for linter in failed:
        print(f'\n{shlex.join(linter.command)}: {linter.remedy}.')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
