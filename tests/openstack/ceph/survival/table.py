# SPDX-License-Identifier: Apache-2.0
"""Prints what came of the last run, or forgets it: ``--begin``."""

from __future__ import annotations

import argparse

from tests.exhaustive import seed
from tests.openstack.ceph.survival import results
from tests.openstack.ceph.survival.results import Outcome

HEAD = ('path', 'step', 'victim', 'whole after', 'image')


def rows(found: list[Outcome]) -> list[tuple[str, ...]]:
    return [
        (
            outcome.case.path,
            outcome.case.step,
            outcome.case.victim,
            '-' if outcome.seconds is None else f'{outcome.seconds:.1f} s',
            f'MISS: {outcome.miss}' if outcome.miss else outcome.image,
        )
        for outcome in found
    ]


def summary(found: list[Outcome]) -> str:
    """The totals, in a line."""
    seconds = sorted(
        outcome.seconds for outcome in found if outcome.seconds is not None
    )
    text = (
        f'{len(found)} cases, '
        f'{sum(bool(outcome.miss) for outcome in found)} missed'
    )
    if seconds:
        middle = seconds[len(seconds) // 2]
        text += (
            f'; whole after {middle:.1f} s (median), '
            f'{seconds[-1]:.1f} s at most'
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--begin', action='store_true')
    if parser.parse_args().begin:
        results.begin()
    else:
        show()


def show() -> None:
    found = results.outcomes()
    table = [HEAD, *rows(found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print(
            '  '.join(
                cell.ljust(width)
                for cell, width in zip(row, widths, strict=True)
            ).rstrip()
        )
    print(f'{summary(found)}; NOVA_SNAPSHOT_SEED={seed()}')
    for line in results.said():
        print(line)


if __name__ == '__main__':
    main()
