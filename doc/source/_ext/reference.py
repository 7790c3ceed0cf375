# SPDX-License-Identifier: Apache-2.0
"""What is made from the code, or compared with it, and can't fall behind."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.parsers.rst.states import Inliner

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception

Cell = list[nodes.Node]

#: The tests of this checkout.
TESTS = pathlib.Path(__file__).parents[3] / 'tests'


class _TableDirective(Directive):
    def fields(self) -> dict[str, Cell]:
        """The body, which is a field list."""
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        return {
            field[0].astext(): list(field[1].children)
            for field in parsed.findall(nodes.field)
        }

    def table(
        self,
        titles: Iterable[str],
        widths: list[int],
        rows: Iterable[list[Cell]],
    ) -> nodes.table:
        group = nodes.tgroup(cols=len(widths))
        group += [nodes.colspec(colwidth=width) for width in widths]
        group += nodes.thead('', _row([_text(title)] for title in titles))
        group += nodes.tbody('', *(_row(row) for row in rows))
        return nodes.table('', group, classes=['colwidths-given'])


class SnapshotErrors(_TableDirective):
    """Every error: its code, its message, and what to do.

    The first two are from ``exception.py``. The last is the body, a field
    list by code, which has to name every code there is and no other.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        remedies = self.fields()
        classes = _every_class()
        unlike = remedies.keys() ^ classes.keys()
        if unlike:
            raise self.error(
                'Without a remedy, or without an error: '
                + ', '.join(sorted(unlike))
            )
        return [
            self.table(
                ('Code', 'Message', 'What to do'),
                [20, 40, 40],
                (
                    [
                        [_text(code, nodes.literal)],
                        [_message(classes[code].template)],
                        remedies[code],
                    ]
                    for code in sorted(classes)
                ),
            )
        ]


class NovaOptions(_TableDirective):
    """Nova's own options that the driver heeds.

    All but the body is from ``conf.py``. The body is a field list by option,
    with what else is to be said of some of them.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        remarks = self.fields()
        options = {
            _name(group, opt.name): opt
            for group, opts in conf.nova_opts.items()
            for opt in opts
        }
        unknown = remarks.keys() - options.keys()
        if unknown:
            raise self.error(
                'The driver does not read these options of Nova: '
                + ', '.join(sorted(unknown))
            )
        return [
            self.table(
                ('Option', 'Default', 'Description'),
                [40, 25, 35],
                (
                    [
                        [_text(name, nodes.literal)],
                        [_text(_default(opt.default), nodes.literal)],
                        [
                            _text(' '.join((opt.help or '').split())),
                            *remarks.get(name, []),
                        ],
                    ]
                    for name, opt in options.items()
                ),
            )
        ]


def test_role(
    _name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    _options: Any = None,
    _content: Sequence[str] = (),
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Where something is tested: ``:test:`nova.test_compute.DestroyTest```.

    What it names exists: a module below ``tests``, and in it a class, and
    maybe a method.
    """
    path, names = TESTS, text.split('.')
    while names and path.is_dir():
        path /= names.pop(0)
    module = path.with_suffix('.py')
    code = module.read_text() if module.exists() else None
    if code is None or not all(
        re.search(rf'^ *(class|def) {re.escape(name)}\b', code, re.MULTILINE)
        for name in names
    ):
        message = inliner.reporter.error(f'There is no {text}', line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    literal = nodes.literal(rawtext)
    for part in re.findall(r'[^._]+[._]?', text):
        # Such a name is too long for a line of a table.
        literal += [nodes.Text(part), nodes.raw('', '<wbr>', format='html')]
    return [literal], []


def _every_class() -> dict[str, type[exception.SnapshotError]]:
    found = [exception.SnapshotError]
    for error in found:
        found += error.__subclasses__()
    return {error.code: error for error in found}


def _message(template: str) -> nodes.paragraph:
    """A template, with the fields in it made visible."""
    paragraph = nodes.paragraph()
    for part in re.split(r'({\w+})', template):
        if part.startswith('{'):
            paragraph += nodes.emphasis(part, part.strip('{}'))
        else:
            paragraph += nodes.Text(part)
    return paragraph


def _name(group: str | None, option: str) -> str:
    return f'[{group or "DEFAULT"}] {option}'


def _default(value: Any) -> str:
    match value:
        case None | '':
            return '(none)'
        case list():
            return ', '.join(value)
        case _:
            return str(value)


def _text(text: str, kind: type[nodes.Node] = nodes.inline) -> nodes.paragraph:
    return nodes.paragraph('', '', kind(text, text))


def _row(cells: Iterable[Cell]) -> nodes.row:
    return nodes.row('', *(nodes.entry('', *cell) for cell in cells))


def setup(app: Any) -> dict[str, Any]:
    app.add_directive('snapshot-errors', SnapshotErrors)
    app.add_directive('nova-options', NovaOptions)
    app.add_role('test', test_role)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
