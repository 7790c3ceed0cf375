# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: ``python -m bench.increments --help``."""

import argparse
import sys
from pathlib import Path

from bench import run
from bench.increments.bench import Bench
from bench.increments.picture import draw
from bench.increments.report import report
from bench.increments.results import Results
from bench.machine import describe
from lab.cloud.options import CloudOptions
from lab.cloud.options import Storage


def main() -> int:
    parser = run.parser(
        'bench.increments',
        'Compare increments into Cinder with full snapshots into Glance',
        3,
    )
    parser.add_argument(
        '--data',
        type=int,
        default=4,
        metavar='GIB',
        help='on the disk of the server (default: %(default)s)',
    )
    return run.main(
        parser.parse_args(), 'increments.json', _measure, _write_report
    )


def _measure(arguments: argparse.Namespace, target: Path) -> bool:
    with run.running_cloud(CloudOptions(storage=Storage.CEPH)) as cloud:
        bench = Bench(cloud, arguments.rounds, arguments.data)
        results = Results(describe(cloud), bench.samples)
        try:
            bench.run()
        finally:
            # Keep the results even if a snapshot has failed.
            results.write(target)
    return True


def _write_report(source: Path) -> None:
    results = Results.read(source)
    source.with_suffix('.inc').write_text(report(results))
    draw(results, source.with_suffix(''))


if __name__ == '__main__':
    sys.exit(main())
