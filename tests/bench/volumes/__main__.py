# SPDX-License-Identifier: Apache-2.0
"""Run the benchmark: ``python -m tests.bench.volumes --help``."""

import argparse
import sys
from pathlib import Path

from tests.bench import run
from tests.bench.machine import describe
from tests.bench.volumes.bench import Bench
from tests.bench.volumes.report import report
from tests.bench.volumes.results import Results
from tests.bench.volumes.ways import WAYS


def main() -> int:
    parser = run.parser(
        'tests.bench.volumes',
        'Compare the ways to take a snapshot of a volume-backed server',
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
            # What was measured is measured.
            results.write(target)
    return not bench.failed


def _write_report(source: Path) -> None:
    source.with_suffix('.inc').write_text(report(Results.read(source)))


if __name__ == '__main__':
    sys.exit(main())
