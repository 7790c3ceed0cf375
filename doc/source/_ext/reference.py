# SPDX-License-Identifier: Apache-2.0
"""Parts of pages that are made from the code, and can't fall behind it."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.parsers.rst.states import Inliner
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception

Cell = list[nodes.Node]

#: The page with a section for each error.
ERRORS = 'reference/errors'

#: The tests of this checkout.
TESTS = pathlib.Path(__file__).parents[3] / 'tests'


class _Directive(Directive):
    """A directive whose body is a field list."""

    has_content = True

    def fields(self) -> dict[str, Cell]:
        """The body."""
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        return {
            field[0].astext(): list(field[1].children)
            for field in parsed.findall(nodes.field)
        }

    def refuse(self, what: str, names: Iterable[str]) -> None:
        """End the build if there are names that should not be.

        :param what: they are
        """
        found = sorted(names)
        if found:
            raise self.error(f'{what}: {", ".join(found)}')


class SnapshotErrors(_Directive):
    """Every error: its code, its message, and what to do.

    The first two are from ``exception.py``. The last is the body, a field
    list by code, which has to name every code there is and no other. Each
    error is a section, whose anchor is the code.
    """

    def run(self) -> list[nodes.Node]:
        remedies = self.fields()
        classes = exception.by_code()
        self.refuse('Errors without a remedy', classes.keys() - remedies)
        self.refuse('Remedies without an error', remedies.keys() - classes)
        codes = sorted(classes)
        return [
            _list_of_links(codes),
            *(
                _error(code, classes[code].template, remedies[code])
                for code in codes
            ),
        ]


class NovaOptions(_Directive):
    """Nova's own options that the driver heeds.

    All but the body is from ``conf.py``. The body is a field list by option,
    with what else is to be said of some of them.
    """

    def run(self) -> list[nodes.Node]:
        remarks = self.fields()
        options = {
            _name(group, opt.name): opt
            for group, opts in conf.nova_opts.items()
            for opt in opts
        }
        self.refuse(
            'Options of Nova that the driver does not read',
            remarks.keys() - options.keys(),
        )
        return [
            _table(
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


class LinkErrors(SphinxPostTransform):
    """Make each mention of a code a link to its section."""

    formats = ('html',)
    default_priority = 20

    def run(self, **_kwargs: Any) -> None:
        codes = exception.by_code()
        for literal in list(self.document.findall(nodes.literal)):
            code = literal.astext()
            if code in codes and not _is_linked(literal):
                literal.replace_self(
                    make_refnode(
                        self.env.app.builder,
                        self.env.current_document.docname,
                        ERRORS,
                        code,
                        literal.deepcopy(),
                    )
                )


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
        # The name is too long for a line of a table.
        literal += [nodes.Text(part), nodes.raw('', '<wbr>', format='html')]
    return [literal], []


def _error(code: str, template: str, remedy: Cell) -> nodes.section:
    section = nodes.section('', ids=[code], names=[code])
    section += nodes.title('', '', nodes.literal(code, code))
    # The message is quoted as it is, with its quotation marks and dashes.
    section += nodes.block_quote(
        '', _message(template), support_smartquotes=False
    )
    section += remedy
    return section


def _list_of_links(anchors: Iterable[str]) -> nodes.bullet_list:
    """A list of anchors of this page, in as many columns as there is room."""
    links = nodes.bullet_list('', classes=['columns'])
    for anchor in anchors:
        text = nodes.literal(anchor, anchor)
        link = nodes.reference('', '', text, internal=True, refid=anchor)
        links += nodes.list_item('', nodes.paragraph('', '', link))
    return links


def _is_linked(node: nodes.Node) -> bool:
    """Whether a node is in a link, or in a title, which may become one."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.reference | nodes.title):
            return True
    return False


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


def _table(
    titles: Iterable[str],
    widths: list[int],
    rows: Iterable[list[Cell]],
) -> nodes.table:
    group = nodes.tgroup(cols=len(widths))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += nodes.thead('', _row([_text(title)] for title in titles))
    group += nodes.tbody('', *(_row(row) for row in rows))
    return nodes.table('', group, classes=['colwidths-given'])


def _row(cells: Iterable[Cell]) -> nodes.row:
    return nodes.row('', *(nodes.entry('', *cell) for cell in cells))


def setup(app: Any) -> dict[str, Any]:
    app.add_directive('snapshot-errors', SnapshotErrors)
    app.add_directive('nova-options', NovaOptions)
    app.add_post_transform(LinkErrors)
    app.add_role('test', test_role)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
