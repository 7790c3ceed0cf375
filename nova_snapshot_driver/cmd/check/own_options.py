# SPDX-License-Identifier: Apache-2.0
"""The names of options in the group ``[snapshot]`` of the files.

oslo.config passes over a name that it does not know, without a word.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from collections.abc import Sequence

from oslo_config import cfg

from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.conf import snapshot_opts

GROUP = 'snapshot'


def findings(files: Sequence[str]) -> Iterator[Finding]:
    """The names that are unknown or deprecated, each with the right one.

    :param files: that oslo.config has read, and can therefore parse
    """
    known = {opt.dest for opt in snapshot_opts}
    successors = {
        deprecated.name.replace('-', '_'): opt.dest
        for opt in snapshot_opts
        for deprecated in opt.deprecated_opts
        if deprecated.name is not None
    }
    for path in files:
        for name in _names(path):
            if name in successors:
                yield _finding(
                    name,
                    f'{path} has it by a name that is deprecated. It is '
                    f'called {successors[name]} now.',
                )
            elif name not in known:
                yield _finding(name, f'{path}: {_unknown(name, known)}')


def _names(path: str) -> list[str]:
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(path, sections).parse()
    return list(sections.get(GROUP, {}))


def _unknown(name: str, known: set[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    meant = f' Is {nearest[0]} meant?' if nearest else ''
    return f'The driver has no such option, and its value is ignored.{meant}'


def _finding(name: str, detail: str) -> Finding:
    return Finding(f'[{GROUP}] {name}', Verdict.WARNING, detail)
