# SPDX-License-Identifier: Apache-2.0
"""The events in the life of a snapshot, under stable names.

A line of the log that tells of an event ends with its name and its fields, in
square brackets::

    Snapshot of domain web-1: ... [event=snapshot.planned method=mirror]

oslo.log has them beside the text as well: in ``extra`` of its JSON formatter
and of its fluentd formatter.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from typing import Any
from typing import Protocol


class Event(enum.Enum):
    """Each is in ``doc/source/admin/operating.rst``, with its fields."""

    BEGUN = 'snapshot.begun'
    PLANNED = 'snapshot.planned'
    REFUSED = 'snapshot.refused'
    PROGRESS = 'snapshot.progress'
    STILL = 'snapshot.still'
    TAKEN = 'snapshot.taken'
    UNFINISHED = 'snapshot.unfinished'
    FAILED = 'snapshot.failed'
    LEFT_TO_NOVA = 'snapshot.left-to-nova'
    AGENT_LOST = 'guest.agent-lost'
    NOT_GIVEN_BACK = 'guest.undo-failed'
    ABANDONED = 'recovery.begun'
    HEALED = 'recovery.done'
    NOT_HEALED = 'recovery.failed'


def log_event(
    log: Callable[..., None],
    event: Event,
    text: object,
    uuid: str | None = None,
    **fields: Any,
) -> None:
    """Log an event.

    :param log: the method of a logger of oslo.log
    :param text: for a person
    :param uuid: of the domain, where it is known
    """
    about = {} if uuid is None else {'instance_uuid': uuid}
    log(
        '%s [%s]',
        text,
        _in_words({'event': event.value, **fields}),
        event=event.value,
        **fields,
        **about,
    )


class Named(Protocol):
    """A guest with a name and a UUID."""

    name: str
    uuid: str


def log_stall(
    log: Callable[..., None], guest: Named, by: str, seconds: float
) -> None:
    """Log for how long a guest stood still, now that it runs again.

    :param by: ``freeze``, ``pause`` or ``suspend``
    """
    log_event(
        log,
        Event.STILL,
        f'Domain {guest.name} stood still for {seconds:.3f} s ({by})',
        guest.uuid,
        by=by,
        seconds=seconds,
    )


def _in_words(fields: dict[str, Any]) -> str:
    """The fields as ``logfmt`` writes them."""
    return ' '.join(f'{name}={_word(fields[name])}' for name in fields)


def _word(value: Any) -> str:
    word = value if isinstance(value, str) else json.dumps(value)
    return word if re.fullmatch(r'[^\s"=\[\]]+', word) else json.dumps(word)
