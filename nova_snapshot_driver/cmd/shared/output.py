# SPDX-License-Identifier: Apache-2.0
"""The output of the command line: tables for people, JSON for machines."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import sys
import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.control import Control
from rich.progress import BarColumn
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn
from rich.progress import Task
from rich.progress import TaskID
from rich.progress import TaskProgressColumn
from rich.progress import TextColumn
from rich.progress import TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.shared import streams
from nova_snapshot_driver.common import progress
from nova_snapshot_driver.state.workspace import MIB

STEPS = {
    'copy': 'Copying the disk, the guest runs on',
    'extract': 'Writing the image',
    'stream': 'Reading, encoding and uploading',
    'save': 'Writing the image',
    'increment': 'Writing what has changed',
    'verify': 'Proving the image',
    'restore': 'Writing the image',
    'hash': 'Hashing the disk',
    'update': 'Writing the volume',
    'upload': 'Uploading to Glance',
    'volumes': 'Waiting for the snapshots in Cinder',
}


VERDICT_STYLES = {
    'SUCCESS': 'green',
    'WARNING': 'yellow',
    'FAILURE': 'bold red',
}


#: The narrowest table that can be read, in columns. A narrower terminal wraps
#: its lines.
LEAST_WIDTH = 60


def print_json(result: Any, in_one_line: bool = False) -> None:
    indent = None if in_one_line else 2
    streams.write(json.dumps(result, indent=indent) + '\n')


def begin_screen() -> None:
    """Have what follows replace what a terminal shows; elsewhere, go on.

    A line says since when it is so.
    """
    if _is_terminal():
        streams.write(str(Control.home()) + str(Control.clear()))
    print_line(f'{datetime.datetime.now():%Y-%m-%d %H:%M:%S}')


def print_line(text: str) -> None:
    streams.write(f'{text}\n')


def print_record(record: Mapping[str, str]) -> None:
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for name, value in record.items():
        table.add_row(name, Text(value))
    _print(table)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=box.SIMPLE)
    for title in titles:
        table.add_column(title, overflow='fold')
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _print(table)


def print_verdicts(rows: Iterable[tuple[str, str, str]], summary: str) -> None:
    """Print each verdict; in one line where no terminal shows it.

    :param rows: subject, verdict (``SUCCESS``, ``WARNING`` or ``FAILURE``),
        detail
    :param summary: the last line
    """
    if not _is_terminal():
        lines = (
            f'{verdict}  {subject}: {" ".join(detail.split())}'
            for subject, verdict, detail in rows
        )
        print_line('\n'.join([*lines, summary]))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow='fold')
    for subject, verdict, detail in rows:
        table.add_row(
            Text(verdict, VERDICT_STYLES[verdict]),
            Text.assemble((subject, 'bold'), f': {detail}'),
        )
    _print(table, f'{summary}\n')


def _print(table: Table, after: str = '') -> None:
    paper = _Paper()
    _console(file=paper).print(table)
    streams.write(paper.getvalue() + after)


class _Paper(io.StringIO):
    """A buffer in place of standard output, so that all is written at once.

    The text is still there if writing fails.
    """

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return 'utf-8' if sys.stdout is None else sys.stdout.encoding

    def isatty(self) -> bool:
        return _is_terminal()


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _console(**how: Any) -> Console:
    console = Console(**how)
    console.width = max(console.width, LEAST_WIDTH)
    return console


def print_error(error: exception.SnapshotError, form: str) -> None:
    if form == 'json':
        # Standard error has the text then.
        with contextlib.suppress(exception.OutputUnwritable):
            print_json({'error': error.to_dict()})
    message = Text.assemble(('Error: ', 'bold red'), str(error))
    _console(stderr=True, soft_wrap=True).print(message)


def print_hint(text: str) -> None:
    """Print to standard error what helps to understand an error."""
    _console(stderr=True, soft_wrap=True).print(Text(text, 'dim'))


@contextlib.contextmanager
def progress_bars() -> Iterator[progress.Progress]:
    """Bars on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield progress.silent
        return
    with Bars(
        TextColumn('{task.description}'),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        _BytesColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    ) as bars:
        yield _Steps(bars)


class _BytesColumn(ProgressColumn):
    """The amount, the total and the speed of a step that counts bytes."""

    def render(self, task: Task) -> Text:
        if task.total is None or not task.fields['in_bytes']:
            return Text()
        words = f'{int(task.completed) // MIB}/{int(task.total) // MIB} MiB'
        speed = task.finished_speed or task.speed
        if speed:
            words += f', {speed / MIB:.0f} MiB/s'
        return Text(words)


class _Steps:
    """A progress bar for each step, from its first report on."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, step: str, done: int, total: int) -> None:
        with self._lock:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(
                    STEPS[step],
                    total=None,
                    in_bytes=step in progress.IN_BYTES,
                )
        self._bars.update(self._tasks[step], completed=done, total=total)
