# SPDX-License-Identifier: Apache-2.0
"""Waiting, locking and running programs, never for ever."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError
from lab.errors import LabTimeout

# Messages that can be parsed, and the tools that an ordinary user's PATH
# does not reach on Debian.
_ENVIRONMENT = {
    'LC_ALL': 'C.UTF-8',
    'PATH': f'{os.environ.get("PATH", os.defpath)}:/usr/sbin:/sbin',
}


def wait_until(
    condition: Callable[[], bool],
    what: str,
    timeout: float,
    interval: float = 0.05,
) -> None:
    """Poll *condition* until it holds.

    :param what: what is waited for, in words that complete "waiting for ..."
    :param timeout: seconds
    :param interval: seconds between two looks
    :raises LabTimeout: the condition did not hold in time
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabTimeout(f'waited {timeout:g} s in vain for {what}')
        time.sleep(interval)


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """Run a program and return what it wrote, both streams together.

    :param timeout: seconds, after which the program is killed
    :param directory: its working directory
    :param environment: variables to add to those of this process
    :param accept: the exit statuses that mean success
    :raises LabTimeout: it ran for too long
    :raises LabError: it is not installed, or ended with another status
    """
    line = ' '.join(map(str, argv))
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=os.environ | _ENVIRONMENT | dict(environment or {}),
            timeout=timeout,
            text=True,
            errors='replace',
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            f'{argv[0]} is not installed; bindep.txt lists the packages '
            'the lab needs'
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabTimeout(f'killed after {timeout:g} s: {line}') from error
    if done.returncode not in accept:
        raise LabError(
            f'exit status {done.returncode} of: {line}\n{done.stdout.strip()}'
        )
    return done.stdout


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on the file *path*, which is created.

    :param timeout: seconds to wait for another process that holds it
    :raises LabTimeout: the other process did not let go in time
    """
    with path.open('w') as file:

        def acquired() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        wait_until(acquired, f'the lock {path}', timeout, interval=0.2)
        yield
