# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: ``python -m tests.bench --help``."""

import argparse
import sys
from pathlib import Path

from openstack.exceptions import SDKException

from tests.bench.bench import CONSOLE
from tests.bench.bench import Bench
from tests.bench.bench import Options
from tests.bench.bench import running_cloud
from tests.bench.errors import BenchError
from tests.bench.machine import describe
from tests.bench.picture import draw
from tests.bench.report import report
from tests.bench.results import Results
from tests.bench.subjects import subject_of
from tests.bench.ways import WAYS
from tests.lab.errors import LabError

_DOCUMENTATION = Path(__file__).parents[2] / 'doc/source/benchmark'


def main() -> int:
    arguments = _parser().parse_args()
    results = arguments.output / 'results.json'
    succeeded = True
    try:
        if not arguments.report:
            succeeded = _measure(arguments, results)
        _write_report(Results.read(results), arguments.output)
    except (BenchError, LabError, SDKException) as error:
        CONSOLE.print(f'The benchmark failed: {error}', markup=False)
        succeeded = False
    return 0 if succeeded else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m tests.bench',
        description='Compare the ways to take a snapshot, in a cloud of its '
        'own. Needs root.',
    )
    parser.add_argument(
        '--rounds', type=int, default=3, help='(default: %(default)s)'
    )
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
        metavar='WAY',
        help='some of: %(choices)s',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='leave out empty disks, zeros and cold snapshots',
    )
    parser.add_argument(
        '--report',
        action='store_true',
        help='measure nothing: write the tables and the picture of the last '
        'run anew',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=_DOCUMENTATION,
        metavar='DIRECTORY',
        help='(default: that of the documentation)',
    )
    return parser


def _measure(arguments: argparse.Namespace, target: Path) -> bool:
    """Return whether every snapshot has succeeded."""
    sizes = sorted(arguments.sizes)
    options = Options(
        rounds=arguments.rounds,
        sizes=sizes,
        ways=[way for way in WAYS if way.name in arguments.only],
        quick=arguments.quick,
    )
    with running_cloud() as cloud:
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
            # What was measured is measured.
            results.write(target)
    return not bench.failed


def _write_report(results: Results, directory: Path) -> None:
    (directory / 'results.inc').write_text(report(results))
    draw(results, directory / 'snapshot')
    CONSOLE.print(f'Written to {directory}')


if __name__ == '__main__':
    sys.exit(main())
