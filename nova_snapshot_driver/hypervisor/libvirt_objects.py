# SPDX-License-Identifier: Apache-2.0
"""The objects of libvirt, whose every call ends in time.

A call that is not answered can't be taken back: its thread waits on, for as
long as libvirt does. A domain has but one such call of each kind. The next one
is not made while that one is not answered; it waits for it, for what is left
of its time, and is refused at once after that. So a domain that has fallen
silent is waited for once, by all calls together.

What is there is not known meanwhile, since a call may have its effect when it
is answered at last. An undo that asks for it waits as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import background
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor.libvirt_calls import BESIDE_TIMEOUT
from nova_snapshot_driver.hypervisor.libvirt_calls import CALLS
from nova_snapshot_driver.hypervisor.libvirt_calls import LIBVIRT_TIMEOUT
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.hypervisor.libvirt_calls import Bound
from nova_snapshot_driver.hypervisor.libvirt_calls import Call
from nova_snapshot_driver.hypervisor.libvirt_calls import Given

LOG = logging.getLogger(__name__)

#: The option that bounds whatever needs QEMU.
QEMU_TIMEOUT = Bound.QEMU_TIMEOUT.value

#: How often it is looked whether to wait on, in seconds. An answer is noticed
#: at once.
POLL_INTERVAL = 0.2


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long an answer may take, by the options of those names."""

    qemu_timeout: float = 300
    quiesce_timeout: float = 10

    def with_(self, bound: Bound) -> Limit:
        match bound:
            case Bound.BESIDE_TIMEOUT:
                return self._at_most(BESIDE_TIMEOUT)
            case Bound.LIBVIRT_TIMEOUT:
                return self._at_most(LIBVIRT_TIMEOUT)
            case Bound.AGENT:
                return Limit(
                    self.qemu_timeout + self.quiesce_timeout, QEMU_TIMEOUT
                )
            case _:
                return Limit(self.qemu_timeout, QEMU_TIMEOUT)

    def _at_most(self, seconds: float) -> Limit:
        if self.qemu_timeout < seconds:
            return Limit(self.qemu_timeout, QEMU_TIMEOUT)
        return Limit(seconds)


@dataclasses.dataclass(eq=False)
class _Asked:
    """A call that has been made."""

    name: str
    answered_by: Answerer
    patience: Limit
    answer: futures.Future[Any] = dataclasses.field(
        default_factory=futures.Future
    )
    began: float = dataclasses.field(default_factory=lambda: time.monotonic())

    def wait(self, seconds: float) -> bool:
        """
        :returns: whether it is answered
        """
        return bool(futures.wait([self.answer], max(seconds, 0)).done)


#: The calls that are not answered, of all domains and connections of this
#: process, by whom they ask about and who is to answer them.
_asked: dict[tuple[str, Answerer], _Asked] = {}
_lock = threading.Lock()


class Correspondent:
    """The domain or the connection that objects are asked about.

    :param key: unique among the correspondents of this process
    :param domain: the name of the domain, for a person
    :ivar cancellation: by which whoever waits for an answer may be stopped,
        unless it is an undo that waits
    """

    def __init__(self, key: str, domain: str, patience: Patience) -> None:
        self._key = key
        self._domain = domain
        self.patience = patience
        self.cancellation: Cancellation | None = None

    def of(self, domain: Any) -> Correspondent:
        """The correspondent of a domain.

        :param domain: a ``virDomain``
        """
        return Correspondent(domain.UUIDString(), domain.name(), self.patience)

    def ask(
        self,
        name: str,
        function: Callable[[], Any],
        limit: Limit | None = None,
        as_it_is: bool = False,
    ) -> Any:
        """Make a call, and wait for its answer.

        :param name: in the table
        :param limit: in which it is to be answered, if not in that of the
            table
        :param as_it_is: no call that is under way makes a difference
        :raises HypervisorSilent: it is not, or is not made since another one
            is not
        :raises Cancelled: somebody wants to wait no longer
        """
        call = CALLS[name]
        if call.answered_by is Answerer.OBJECT:
            return function()
        with self._logged(name) as log:
            if call.is_question and undo.is_under_way() and not as_it_is:
                self.settle(Answerer.QEMU)
            asked = self._begin(name, call, function)
            try:
                self._wait(asked, limit or asked.patience)
                answer = asked.answer.result()
            finally:
                # The traceback of an error keeps this frame, and whatever
                # handle of libvirt is in those above: no circle with it.
                del asked
            log(_shown(answer))
        return answer

    def begin(
        self, name: str, function: Callable[[], Any]
    ) -> futures.Future[Any]:
        """Make a call, and leave the waiting for its answer to the caller.

        :raises HypervisorSilent: it is not made, since another one is not
            answered
        """
        with self._logged(name) as log:
            answer = self._begin(name, CALLS[name], function).answer
        answer.add_done_callback(lambda answer: log(_end_of(answer)))
        return answer

    @contextlib.contextmanager
    def _logged(self, name: str) -> Iterator[Callable[[str], None]]:
        """Log a call that is made inside, for whoever debugs.

        :returns: logs its end, in words
        """
        began = time.monotonic()

        def log(end: str) -> None:
            LOG.debug(
                'Domain %s: libvirt: %s: %s (%.3f s)',
                self._domain,
                name,
                end,
                time.monotonic() - began,
            )

        try:
            yield log
        except Exception as error:
            log(_told(error))
            raise

    def settle(self, *answerers: Answerer) -> None:
        """See that no call is under way that changes anything.

        One that is gets its time.

        :raises HypervisorSilent: one is not answered
        """
        for answerer in answerers:
            asked = _asked.get((self._key, answerer))
            if asked is not None and not CALLS[asked.name].is_question:
                self._wait(asked, asked.patience)

    def has_answered_within(self, answerer: Answerer, seconds: float) -> bool:
        """Wait for the call that is under way, if one is."""
        asked = _asked.get((self._key, answerer))
        return asked is None or asked.wait(seconds)

    def _begin(
        self, name: str, call: Call, function: Callable[[], Any]
    ) -> _Asked:
        place = (self._key, call.answered_by)
        asked = _Asked(name, call.answered_by, self.patience.with_(call.bound))
        while (other := self._took(place, asked)) is not None:
            self._wait(other, other.patience)
        try:
            background.start(function, asked.answer)
        except RuntimeError as error:
            # Python starts no other thread, at a limit of the system.
            asked.answer.set_exception(error)
        return asked

    def _took(
        self, place: tuple[str, Answerer], asked: _Asked
    ) -> _Asked | None:
        """Take the place of the one call that may be under way.

        :returns: the one that has it
        """
        with _lock:
            other = _asked.get(place)
            if other is not None and not other.answer.done():
                return other
            asked.began = time.monotonic()
            _asked[place] = asked
        # The future keeps its callback: no circle with what was asked.
        asked.answer.add_done_callback(functools.partial(_forget, place))
        return None

    def _wait(self, asked: _Asked, limit: Limit) -> None:
        """
        :param limit: since it was made
        """
        deadline = asked.began + limit.seconds
        while not asked.wait(min(POLL_INTERVAL, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise exception.HypervisorSilent(
                    domain=self._domain,
                    operation=asked.name,
                    answerer=asked.answered_by.value,
                    seconds=round(time.monotonic() - asked.began),
                    bound=limit.bound,
                )
            if self.cancellation is not None and not undo.is_under_way():
                self.cancellation.check()


def _end_of(answer: futures.Future[Any]) -> str:
    error = answer.exception()
    return _shown(answer.result()) if error is None else _told(error)


def _told(error: BaseException) -> str:
    return f'{type(error).__name__}: {reason.of(error)}'


def _shown(answer: object) -> str:
    """An answer, as far as anybody may read it in a log.

    Nothing but numbers is shown: a text may be a document with the secrets of
    a domain in it, and bytes are the secret itself.
    """
    match answer:
        case None | int() | float():
            return str(answer)
        case list() | tuple() if _are_numbers(answer):
            return str(answer)
        case dict() if _are_numbers(answer.values()):
            return str(answer)
        case _:
            return type(answer).__name__


def _are_numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _forget(place: tuple[str, Answerer], answer: futures.Future[Any]) -> None:
    with _lock:
        asked = _asked.get(place)
        if asked is not None and asked.answer is answer:
            del _asked[place]


class LibvirtObject:
    """An object of libvirt. It has the methods that are in the table.

    :param real: for example a ``virDomain``
    :param limit: in which its calls are to be answered, if not in that of the
        table
    :param as_it_is: no call that is under way makes a difference to what it
        is asked
    """

    def __init__(
        self,
        real: Any,
        correspondent: Correspondent,
        limit: Limit | None = None,
        as_it_is: bool = False,
    ) -> None:
        self._real = real
        self._limit = limit
        self._as_it_is = as_it_is
        self.correspondent = correspondent

    def within(self, limit: Limit) -> LibvirtObject:
        """A copy of the object, with another limit for the answers."""
        return LibvirtObject(self._real, self.correspondent, limit)

    def as_it_is(self) -> LibvirtObject:
        """A copy of the object for an undo that no call under way concerns."""
        return LibvirtObject(self._real, self.correspondent, as_it_is=True)

    def renewed(self, other: LibvirtObject) -> LibvirtObject:
        """Put another object in the place of this one; all else stays."""
        return LibvirtObject(other._real, self.correspondent, self._limit)

    def begun(self, name: str, *args: Any) -> futures.Future[Any]:
        """Make a call, and leave the waiting for its answer to the caller.

        :param name: in the table; of a call that QEMU answers
        :returns: the answer, or an error of libvirt's own
        """
        return self.correspondent.begin(name, self._call(name, args))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in CALLS:
            raise AttributeError(
                f'{name} is not in the table of the calls to libvirt'
            )
        return functools.partial(self._ask, name)

    def _ask(self, name: str, *args: Any) -> Any:
        answer = self.correspondent.ask(
            name, self._call(name, args), self._limit, self._as_it_is
        )
        return self._wrapped(answer, CALLS[name].given)

    def _call(self, name: str, args: tuple[Any, ...]) -> Callable[[], Any]:
        method = getattr(self._real, name)
        # libvirt itself takes its own objects alone.
        return functools.partial(method, *map(_real, args))

    def _wrapped(self, answer: Any, given: Given) -> Any:
        if isinstance(answer, list) and given is not Given.DATA:
            return [self._wrapped(each, given) for each in answer]
        match given:
            case Given.DOMAIN:
                return LibvirtObject(answer, self.correspondent.of(answer))
            case Given.OBJECT:
                return LibvirtObject(answer, self.correspondent)
            case _:
                return answer


def _real(argument: Any) -> Any:
    if isinstance(argument, LibvirtObject):
        return argument._real
    return argument


def of_connection(connection: Any, patience: Patience) -> LibvirtObject:
    """
    :param connection: a ``virConnect``
    """
    # An address is that of another object only when this one is gone, and
    # with it the calls that it has not answered.
    key = f'connection {id(connection)}'
    return LibvirtObject(connection, Correspondent(key, '-', patience))


@contextlib.contextmanager
def heeding(
    correspondent: Correspondent, cancellation: Cancellation
) -> Iterator[None]:
    """Let a cancellation end the waits for answers inside."""
    before = correspondent.cancellation
    correspondent.cancellation = cancellation
    try:
        yield
    finally:
        correspondent.cancellation = before
