# SPDX-License-Identifier: Apache-2.0
"""Faults of single calls to libvirt, in a run that is well otherwise.

An :class:`Interposer` stands between the engine and a connection, real or
fake. It numbers every call to the connection and to the domains that it hands
out; one of them can be made to go wrong::

    steps = record(connection, lambda conn: snapshot(Host(conn)))
    for fault in every_fault(steps):
        cancellation = Cancellation()
        with Interposer(
            connection, fault, lambda: cancellation.request('test')
        ) as interposer:
            snapshot(Host(interposer.connection), cancellation)

A step is known by its call and how often that was made before, and not by its
number: how often a job is polled differs from run to run, but for a fake whose
clock stands still between two polls.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from typing import Self

import libvirt

#: Calls that are answered from the memory of the object, without the
#: hypervisor, and can't fail.
LOCAL = frozenset(
    {'ID', 'UUID', 'UUIDString', 'connect', 'getName', 'isAlive', 'name'}
)

#: The seconds for which a call is not answered that nobody releases.
LONGEST_SILENCE = 300


@dataclasses.dataclass(frozen=True)
class Step:
    """A call to libvirt.

    :ivar number: of the step in its run, from 1 on
    :ivar call: the method, for example ``undefineFlags``
    :ivar occurrence: 1 for the first call of this method
    """

    number: int
    call: str
    occurrence: int

    def __str__(self) -> str:
        return f'{self.call}_{self.occurrence}'


class Kind(enum.Enum):
    """The kinds of faults at a step."""

    #: The call fails and has no effect.
    REFUSED = 'refused'
    #: The call has its effect, and fails all the same.
    LOST = 'lost'
    #: The call is well, and something else happens just before it: a
    #: cancellation, the death of the guest.
    MEANWHILE = 'meanwhile'
    #: The call is not answered, and has its effect when it is released.
    SILENT = 'silent'


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of fault, and the step at which it happens."""

    step: Step
    kind: Kind

    def __str__(self) -> str:
        return f'{self.step}_{self.kind.value}'


class Interposer:
    """Stands between the engine and a connection.

    As a context it insists, at its end, that the fault has come about.

    :param connection: a ``virConnect``, real or fake
    :param fault: what goes wrong; None for nothing
    :param meanwhile: what happens at a fault of the kind ``MEANWHILE``
    :ivar connection: for the engine
    :ivar steps: all calls so far
    :ivar struck: the fault has come about
    :ivar goes_on: set to release a call that is not answered
    """

    def __init__(
        self,
        connection: Any,
        fault: Fault | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self._fault = fault
        self._meanwhile = meanwhile
        self._lock = threading.Lock()
        self._calls: collections.Counter[str] = collections.Counter()
        self.steps: list[Step] = []
        self.struck = False
        self.goes_on = threading.Event()
        self.connection: Any = _Proxy(connection, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and self._fault is not None and not self.struck:
            raise AssertionError(
                f'{self._fault} never came about, in {len(self.steps)} steps'
            )

    def call(self, method: Callable[..., Any], name: str, *args: Any) -> Any:
        """Make one call, and let it go wrong if it is the one."""
        with self._lock:
            self._calls[name] += 1
            step = Step(len(self.steps) + 1, name, self._calls[name])
            self.steps.append(step)
        kind = self._strike(step)
        if kind is Kind.REFUSED:
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                'Timed out during operation: cannot acquire state change '
                f'lock (injected at {step})',
            )
        if kind is Kind.SILENT:
            self.goes_on.wait(LONGEST_SILENCE)
        result = method(*args)
        if kind is Kind.LOST:
            raise libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: client socket is closed '
                f'(injected at {step})',
            )
        return result

    def _strike(self, step: Step) -> Kind | None:
        fault = self._fault
        if fault is None or str(fault.step) != str(step):
            return None
        self.struck = True
        if fault.kind is Kind.MEANWHILE:
            self._meanwhile()
        return fault.kind


def record(connection: Any, run: Callable[[Any], object]) -> list[Step]:
    """The steps of a run without a fault.

    :param run: called with the connection to use
    """
    interposer = Interposer(connection)
    run(interposer.connection)
    return interposer.steps


def every_fault(
    steps: Iterable[Step], kinds: Iterable[Kind] = tuple(Kind)
) -> Iterator[Fault]:
    """A fault of each kind at each step."""
    kinds = tuple(kinds)
    for step in steps:
        for kind in kinds:
            yield Fault(step, kind)


def without_polls(steps: Iterable[Step], keep: int = 2) -> list[Step]:
    """The steps, without the many of a call that is made over and over.

    For runs in which each fault costs seconds, and in which the number of
    polls is a matter of luck.

    :param keep: how many occurrences of each call stay, from the first on
    """
    return [step for step in steps if step.occurrence <= keep]


def libvirt_error(code: int, message: str) -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    error = libvirt.libvirtError(message)
    # The constructor takes what libvirt itself last said in this thread.
    error.args = (message,)
    error.err = (
        code,
        libvirt.VIR_FROM_QEMU,
        message,
        libvirt.VIR_ERR_ERROR,
        '%s',
        message,
        None,
        -1,
        -1,
    )
    return error


#: A method of each kind of object whose calls the interposer sees: a domain, a
#: connection and a checkpoint.
_OF_OBJECTS = ('XMLDesc', 'lookupByName', 'getXMLDesc')


class _Proxy:
    """An object of libvirt, whose calls the interposer sees."""

    def __init__(self, real: Any, interposer: Interposer) -> None:
        self._real = real
        self._interposer = interposer

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if not callable(attribute):
            return attribute
        if name in LOCAL:
            return lambda *args: self._wrapped(attribute(*args))

        def call(*args: Any) -> Any:
            # libvirt itself takes its own objects alone.
            return self._wrapped(
                self._interposer.call(
                    attribute, name, *(_unwrapped(arg) for arg in args)
                )
            )

        return call

    def _wrapped(self, result: Any) -> Any:
        if isinstance(result, list):
            return [self._wrapped(item) for item in result]
        if any(hasattr(result, name) for name in _OF_OBJECTS):
            return _Proxy(result, self._interposer)
        return result


def _unwrapped(argument: Any) -> Any:
    return argument._real if isinstance(argument, _Proxy) else argument
