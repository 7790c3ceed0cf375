# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: ``python -m bench.volumes --help``."""

import argparse
import sys
from pathlib import Path

from bench import run
from bench.machine import describe
from bench.volumes.bench import Bench
from bench.volumes.report import report
from bench.volumes.results import Results
from bench.volumes.ways import WAYS


def main() -> int:
    parser = run.parser(
        'bench.volumes',
        'Compare variants of a snapshot of a volume-backed server',
        5,
    )
    return run.main(
        parser.parse_args(), 'volumes.json', _measure, _write_report
    )


def _measure(arguments: argparse.Namespace, target: Path) -> bool:
    with run.running_cloud(WAYS[0].options) as cloud:
        bench = Bench(cloud, arguments.rounds)
        results = Results(describe(cloud), bench.samples)
        try:
            bench.run()
        finally:
            # Keep the results even if a snapshot has failed.
            results.write(target)
    return not bench.failed


def _write_report(source: Path) -> None:
    source.with_suffix('.inc').write_text(report(Results.read(source)))


if __name__ == '__main__':
    sys.exit(main())
