# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: ``python -m bench --help``."""

import argparse
import sys
from pathlib import Path

from bench import run
from bench.bench import Bench
from bench.bench import Options
from bench.machine import describe
from bench.picture import draw
from bench.report import report
from bench.results import Results
from bench.subjects import subject_of
from bench.ways import WAYS


def main() -> int:
    return run.main(
        _parser().parse_args(), 'results.json', _measure, _write_report
    )


def _parser() -> argparse.ArgumentParser:
    parser = run.parser('bench', 'Compare variants of a snapshot', 3)
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[1, 4],
        metavar='GIB',
        help='how much data the guests have (default: 1 4)',
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=[way.name for way in WAYS],
        default=[way.name for way in WAYS],
        metavar='VARIANT',
        help='some of: %(choices)s',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='leave out empty disks, zeros and cold snapshots',
    )
    return parser


def _measure(arguments: argparse.Namespace, target: Path) -> bool:
    sizes = sorted(arguments.sizes)
    options = Options(
        rounds=arguments.rounds,
        sizes=sizes,
        ways=[way for way in WAYS if way.name in arguments.only],
        quick=arguments.quick,
    )
    with run.running_cloud() as cloud:
        bench = Bench(cloud, options)
        results = Results(
            describe(cloud),
            [subject_of(size) for size in sizes],
            bench.freezes,
            bench.samples,
        )
        try:
            bench.run()
        finally:
            # Keep the results even if a snapshot has failed.
            results.write(target)
    return not bench.failed


def _write_report(source: Path) -> None:
    results = Results.read(source)
    source.with_suffix('.inc').write_text(report(results))
    draw(results, source.with_name('snapshot'))


if __name__ == '__main__':
    sys.exit(main())
