# SPDX-License-Identifier: Apache-2.0
"""The completions and manual pages of the package.

``tox -e genconfig`` compares them with what the parser has now; this test
notices most of that at once, and sees them work.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
from collections.abc import Iterator

import ddt
import testtools

from nova_snapshot_driver.cmd import main
from tests.unit import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARE = ROOT / 'share'
BASH = SHARE / 'bash-completion/completions/nova-snapshot'
COMPLETIONS = {
    'bash': (BASH,),
    'zsh': (SHARE / 'zsh/site-functions/_nova-snapshot',),
    'fish': (SHARE / 'fish/vendor_completions.d/nova-snapshot.fish',),
}

#: Completes the last of its arguments, as bash would.
PROGRAM = """\
source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
complete -p nova-snapshot >/dev/null && _shtab_nova_snapshot
printf '%s\\n' "${COMPREPLY[@]}"
"""

TIMEOUT = 30


def commands(
    parser: argparse.ArgumentParser | None = None, above: str = ''
) -> dict[str, argparse.ArgumentParser]:
    """Each command, and each action of one, by the end of its page's name."""
    found = {}
    for action in (parser or main.parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found[above + name] = command
                found |= commands(command, f'{above}{name}-')
    return found


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of a command that its help tells of, but --help itself."""
    for action in parser._actions:
        if action.dest != 'help' and action.help != argparse.SUPPRESS:
            yield from action.option_strings


@ddt.ddt
class CompletionTest(testtools.TestCase):
    @tables.rows(COMPLETIONS)
    def test_every_option_is_known(self, file: pathlib.Path) -> None:
        words = set(re.findall(r'[\w-]+', file.read_text()))
        for name, parser in commands().items():
            self.assertIn(name.rpartition('-')[2], words)
            # fish names an option without its dashes.
            self.assertEqual(
                set(),
                {
                    option
                    for option in options(parser)
                    if not {option, option.lstrip('-')} & words
                },
            )

    @tables.rows(
        {
            'command': ('can', ['cancel']),
            'option': ('create --me', ['--method']),
            'choice': ('create --quiesce r', ['require']),
            'action': ('chain pr', ['prune']),
            'directory': (
                f'chain list {ROOT}/relea',
                [f'{ROOT}/releasenotes'],
            ),
            'file': (
                f'status --config-file {ROOT}/setup.c',
                [f'{ROOT}/setup.cfg'],
            ),
        }
    )
    def test_bash_completes(self, line: str, completed: list[str]) -> None:
        done = subprocess.run(
            ['bash', '-c', PROGRAM, BASH, 'nova-snapshot', *line.split()],
            capture_output=True,
            check=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.assertEqual(completed, done.stdout.split())


class ManualTest(testtools.TestCase):
    def page(self, name: str) -> str:
        text = (SHARE / f'man/man1/{name}.1').read_text()
        return text.replace('\\-', '-')

    def test_every_command_has_a_page(self) -> None:
        for name, parser in commands().items():
            page = self.page(f'nova-snapshot-{name}')
            for option in options(parser):
                self.assertIn(option, page)

    def test_page_of_all(self) -> None:
        page = self.page('nova-snapshot')
        for name in commands():
            self.assertIn(f'.BR nova-snapshot-{name} (1)', page)
        for status, meaning in main.EXIT_STATUSES.items():
            self.assertIn(f'.B {status}\n{meaning}\n', page)
