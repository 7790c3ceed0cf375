# SPDX-License-Identifier: Apache-2.0
"""Writes what a shell wants to know of nova-snapshot, as the parser has it.

    python tools/generate_shell_files.py

Completions for bash, zsh and fish, and a manual page for each command go to
share/, which the package installs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shtab
from argparse_manpage.manpage import Manpage

from nova_snapshot_driver.cmd import main

SHARE = Path(__file__).resolve().parents[1] / 'share'

#: Where the shells look for completions, by the names that shtab has for them.
COMPLETIONS = {
    'bash': 'bash-completion/completions/nova-snapshot',
    'zsh': 'zsh/site-functions/_nova-snapshot',
    'fish': 'fish/vendor_completions.d/nova-snapshot.fish',
}

#: How the argument of an option is completed, by its word in ``--help``.
ARGUMENTS = {
    'DIR': shtab.DIRECTORY,
    'FILE': shtab.FILE,
    'PATH': shtab.FILE,
}


def write() -> None:
    for shell, path in COMPLETIONS.items():
        _write(path, shtab.complete(_completable(), shell))
    for name, content in _man_pages():
        _write(f'man/man1/{name}.1', content)


def _completable() -> argparse.ArgumentParser:
    """The parser, with files where an option wants one.

    A menu of commands has room for a line on each.
    """
    root = main.parser()
    _complete(root)
    return root


def _complete(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if action.metavar in ARGUMENTS:
            action.complete = ARGUMENTS[action.metavar]  # type: ignore[attr-defined]
    for commands in _commands(parser):
        for choice in commands._choices_actions:
            command = commands.choices[choice.dest]
            command.description = choice.help
            _complete(command)


def _man_pages() -> Iterator[tuple[str, str]]:
    """The name and the content of each manual page."""
    parsers = dict(_pages(main.parser(), 'take snapshots of libvirt domains'))
    for name, (parser, purpose) in parsers.items():
        others = sorted(parsers.keys() - {name})
        yield name, _man_page(name, parser, purpose, others)


def _pages(
    parser: argparse.ArgumentParser, purpose: str
) -> Iterator[tuple[str, tuple[argparse.ArgumentParser, str]]]:
    """The name of each page, the parser that it describes, and its purpose."""
    for commands in _commands(parser):
        for choice in commands._choices_actions:
            yield from _pages(commands.choices[choice.dest], choice.help)
        # Each command has a page of its own, and a line in the one above.
        commands.choices = {}
    yield parser.prog.replace(' ', '-'), (parser, purpose)


def _commands(parser: argparse.ArgumentParser) -> list[Any]:
    """The commands of a parser, in a list; an empty one for none."""
    return [
        action
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    ]


def _man_page(
    name: str,
    parser: argparse.ArgumentParser,
    purpose: str,
    others: list[str],
) -> str:
    # The page has sections for what is there.
    parser.epilog = None
    page = Manpage(parser)
    page.synopsis = [parser.prog, *page.synopsis[len(parser.prog.split()) :]]
    page.prog = name
    page.description = purpose
    page.manual = 'User Commands'
    page.source = 'nova-snapshot-driver'
    # A date would make the page another one each day.
    page.date = ''
    page.add_section('exit status', '>', _exit_statuses())
    page.add_section(
        'see also', '>', ',\n'.join(f'.BR {other} (1)' for other in others)
    )
    return str(page)


def _exit_statuses() -> str:
    return '\n'.join(
        f'.TP\n.B {status}\n{meaning}'
        for status, meaning in main.EXIT_STATUSES.items()
    )


def _write(path: str, content: str) -> None:
    file = SHARE / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


if __name__ == '__main__':
    write()
