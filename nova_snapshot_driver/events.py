# SPDX-License-Identifier: Apache-2.0
"""What happens in the life of a snapshot, under names that stay.

A line of the log that tells of an event ends with its name and its fields, in
square brackets::

    Snapshot of domain web-1: mirror (...) [event=snapshot.planned path=mirror]

oslo.log has them beside the text as well: in ``extra`` of its JSON formatter,
and of that for fluentd.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from typing import Any
from typing import Protocol


class Event(enum.Enum):
    """Each is in ``doc/source/operating.rst``, with its fields."""

    BEGUN = 'snapshot.begun'
    PLANNED = 'snapshot.planned'
    REFUSED = 'snapshot.refused'
    PROGRESS = 'snapshot.progress'
    STILL = 'snapshot.still'
    TAKEN = 'snapshot.taken'
    FAILED = 'snapshot.failed'
    LEFT_TO_NOVA = 'snapshot.left-to-nova'
    NOT_GIVEN_BACK = 'guest.not-given-back'
    ABANDONED = 'recovery.begun'
    HEALED = 'recovery.done'
    NOT_HEALED = 'recovery.failed'


def tell(
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
    """A guest."""

    name: str
    uuid: str


def tell_still(
    log: Callable[..., None], guest: Named, by: str, seconds: float
) -> None:
    """Log for how long a guest stood still, now that it goes on.

    :param by: ``freeze``, ``pause`` or ``suspend``
    """
    tell(
        log,
        Event.STILL,
        f'Domain {guest.name} stood still for {seconds:.3f} s ({by})',
        guest.uuid,
        by=by,
        seconds=seconds,
    )


def _in_words(fields: dict[str, Any]) -> str:
    """As ``logfmt`` has them."""
    return ' '.join(f'{name}={_word(fields[name])}' for name in fields)


def _word(value: Any) -> str:
    word = value if isinstance(value, str) else json.dumps(value)
    return word if re.fullmatch(r'[^\s"=\[\]]+', word) else json.dumps(word)
