# SPDX-License-Identifier: Apache-2.0
"""The use of processor and disk by processes, as the kernel counts it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

_PROC = Path('/proc')
_CLOCK = os.sysconf('SC_CLK_TCK')
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclasses.dataclass(frozen=True)
class Usage:
    """The use of processor and disk by processes.

    Reads of files count whether the page cache has the data or not, and writes
    from the moment at which it has them. Sockets do not count.
    """

    #: seconds
    cpu: float = 0.0
    #: bytes
    read: int = 0
    written: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu + other.cpu,
            self.read + other.read,
            self.written + other.written,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu - other.cpu,
            self.read - other.read,
            self.written - other.written,
        )


def total(usages: Iterable[Usage]) -> Usage:
    return sum(usages, Usage())


def usage(pid: int) -> Usage:
    """The use by a process, and by those of its children that have ended."""
    with contextlib.suppress(*_GONE):
        times = _stat(_PROC / str(pid))[13:17]
        # The kernel adds the time of children that were waited for.
        return _with_io(pid, sum(times) / _CLOCK)
    return Usage()


def tree_usage(pid: int) -> Usage:
    """The use by a process and all its descendants, ended ones included."""
    return total(map(usage, family(pid)))


def own_usage(pid: int) -> Usage:
    """The use by a process without its children."""
    with contextlib.suppress(*_GONE):
        return _with_io(pid, sum(_stat(_PROC / str(pid))[13:15]) / _CLOCK)
    return Usage()


def guest_usage(pid: int) -> Usage:
    """The use by a QEMU without its virtual processors."""
    virtual = 0
    for task in _tasks(pid):
        with contextlib.suppress(*_GONE):
            if (task / 'comm').read_text().startswith('CPU '):
                virtual += sum(_stat(task)[13:15])
    found = own_usage(pid)
    return dataclasses.replace(found, cpu=found.cpu - virtual / _CLOCK)


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    for task in _tasks(pid):
        with contextlib.suppress(*_GONE):
            for child in (task / 'children').read_text().split():
                yield from family(int(child))


def command(pid: int) -> list[str]:
    """The arguments of a process; empty: it has ended."""
    with contextlib.suppress(*_GONE):
        content = (_PROC / str(pid) / 'cmdline').read_bytes()
        return content.decode(errors='replace').split('\0')
    return []


def find(*words: str) -> list[int]:
    """The processes that have all the words in their arguments."""
    found = []
    for path in _PROC.glob('[0-9]*'):
        line = ' '.join(command(int(path.name)))
        if all(word in line for word in words):
            found.append(int(path.name))
    return found


def memory(pid: int) -> int:
    """The bytes that a process has in memory; 0: it has ended."""
    with contextlib.suppress(*_GONE):
        text = (_PROC / str(pid) / 'statm').read_text()
        return int(text.split()[1]) * os.sysconf('SC_PAGE_SIZE')
    return 0


def _tasks(pid: int) -> list[Path]:
    with contextlib.suppress(*_GONE):
        return list((_PROC / str(pid) / 'task').iterdir())
    return []


def _stat(path: Path) -> list[int]:
    """The numbers of proc_pid_stat(5), its field n at n - 1."""
    # The name, which may have spaces, is in parentheses.
    _name, _, rest = (path / 'stat').read_text().rpartition(')')
    state, *numbers = rest.split()
    return [0, 0, ord(state), *map(int, numbers)]


def _with_io(pid: int, cpu: float) -> Usage:
    io = dict(
        line.split(': ')
        for line in (_PROC / str(pid) / 'io').read_text().splitlines()
    )
    return Usage(cpu, int(io['rchar']), int(io['write_bytes']))
