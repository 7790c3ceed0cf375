# SPDX-License-Identifier: Apache-2.0
"""The parts of every run: a command, a cloud, results, and a report."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import libvirt
from openstack.exceptions import SDKException
from rich.console import Console

from bench.errors import BenchError
from lab.cloud.cloud import Cloud
from lab.cloud.options import CloudOptions
from lab.errors import LabError

CONSOLE = Console(highlight=False, soft_wrap=True)

_DOCUMENTATION = Path(__file__).parents[1] / 'doc/source/reference/benchmark'


def parser(
    module: str, description: str, rounds: int
) -> argparse.ArgumentParser:
    """The options of every run.

    :param module: what it is called as
    :param rounds: how many there are by default
    """
    parser = argparse.ArgumentParser(
        prog=f'python -m {module}',
        description=f'{description}, in a cloud of its own. Needs root.',
    )
    parser.add_argument(
        '--rounds', type=int, default=rounds, help='(default: %(default)s)'
    )
    parser.add_argument(
        '--report',
        action='store_true',
        help='measure nothing, and report on the last run again',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=_DOCUMENTATION,
        metavar='DIRECTORY',
        help='(default: that of the documentation)',
    )
    return parser


def main(
    arguments: argparse.Namespace,
    name: str,
    measure: Callable[[argparse.Namespace, Path], bool],
    report: Callable[[Path], None],
) -> int:
    """Measure, unless the report alone is wanted, and write the report.

    :param name: of the file with the results
    :param measure: writes that file; returns whether every snapshot has
        succeeded
    :param report: reads that file, and writes the report beside it
    :return: the exit status
    """
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = arguments.output / name
    succeeded = True
    try:
        if not arguments.report:
            succeeded = measure(arguments, results)
        report(results)
    except (BenchError, LabError, SDKException) as error:
        CONSOLE.print(f'The benchmark failed: {error}', markup=False)
        succeeded = False
    else:
        CONSOLE.print(f'Written to {arguments.output}')
    return 0 if succeeded else 1


@contextlib.contextmanager
def running_cloud(options: CloudOptions | None = None) -> Iterator[Cloud]:
    """Start the cloud of ``make cloud``, and restore its state afterwards.

    :param options: None: the default ones
    """
    # By default every error is also printed, the expected ones too.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    cloud = Cloud()
    before = cloud.options if cloud.running else None
    try:
        cloud.ensure(options)
        yield cloud
    finally:
        if before is None:
            cloud.stop()
        else:
            cloud.ensure(before)
