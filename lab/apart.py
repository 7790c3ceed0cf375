# SPDX-License-Identifier: Apache-2.0
"""A function call in a process of its own."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any
from typing import ParamSpec
from typing import TypeVar

from lab.errors import LabError
from lab.errors import LabTimeout

P = ParamSpec('P')
T = TypeVar('T')

_TIMEOUT = 180.0
_EXIT_TIMEOUT = 10.0


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a fresh process and return its result.

    The embedded driver of libvirt stays locked by the process that opened
    it, so a test that runs the command line on a guest boots it, breaks its
    agent and looks at its state in this way::

        guest = WitnessGuest(Hypervisor(root), GuestOptions('a'))
        apart(guest.boot)
        subprocess.run(
            ['nova-snapshot', '--connect', guest.hypervisor.uri, ...]
        )
        apart(guest.discard)

    The function, its arguments and its result have to be picklable.

    :raises LabError: it raised something; the message is its traceback
    :raises LabTimeout: it did not end within 180 s
    """
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_call, args=(theirs, function, args, kwargs), daemon=True
    )
    with ours:
        process.start()
        theirs.close()
        try:
            if not ours.poll(_TIMEOUT):
                raise LabTimeout(f'{function} took more than {_TIMEOUT:g} s')
            succeeded, result = ours.recv()
            process.join(_EXIT_TIMEOUT)
        except EOFError as error:
            process.join(_EXIT_TIMEOUT)
            raise LabError(
                f'{function} died with status {process.exitcode}'
            ) from error
        finally:
            process.kill()
            process.join()
            process.close()
    if not succeeded:
        raise LabError(f'{function} failed:\n{result}')
    value: T = result
    return value


def _call(
    pipe: Connection,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    with pipe:
        try:
            pipe.send((True, function(*args, **kwargs)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
