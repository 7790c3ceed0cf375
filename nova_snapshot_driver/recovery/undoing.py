# SPDX-License-Identifier: Apache-2.0
"""What is undone of a snapshot that died, and what is left of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing that is undone.

    :ivar what: in words, as one asks somebody to do it
    :ivar error: why it is not undone; None if it is, or is to be
    :ivar needs_glance: nobody can do it who does not ask Glance
    """

    what: str
    error: exception.SnapshotError | None = None
    needs_glance: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What has become of one domain."""

    domain: str
    uuid: str
    steps: tuple[Step, ...]

    @property
    def is_healed(self) -> bool:
        """There was something to undo, and nothing of it is left."""
        return bool(self.steps) and not self.errors

    @property
    def errors(self) -> list[exception.SnapshotError]:
        return [step.error for step in self.steps if step.error is not None]

    @property
    def errors_without_glance(self) -> list[exception.SnapshotError]:
        """Those of what could be done without asking Glance."""
        return [
            step.error
            for step in self.steps
            if step.error is not None and not step.needs_glance
        ]

    def check(self) -> None:
        """See that nothing stays that is in the way of the next snapshot.

        :raises RecoveryIncomplete: several things stay, or an error of its own
            for a single one
        """
        errors = []
        for error in self.errors:
            if isinstance(error, exception.ImageLeftBehind):
                LOG.warning('%s', error)
            else:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise exception.RecoveryIncomplete(
                domain=self.domain,
                count=len(errors),
                reasons=' '.join(str(error) for error in errors),
            )


class Undoing:
    """The end of one snapshot that died, step by step.

    A step that fails does not stop others, unless they need it.

    :param uuid: of the domain
    :param name: of the domain
    :param entry: of the snapshot in the journal; None where there is none
    :param is_rehearsal: nothing is done
    """

    def __init__(
        self,
        uuid: str,
        name: str,
        entry: Entry | None,
        is_rehearsal: bool = False,
    ) -> None:
        self.uuid = uuid
        self.name = name
        self.entry = entry
        self.is_rehearsal = is_rehearsal
        self._rest = entry
        self._steps: list[Step] = []

    def undo(
        self,
        what: str,
        action: Callable[[], None],
        is_due: Callable[[], bool] = lambda: True,
        needs_glance: bool = False,
        **undone: Any,
    ) -> bool:
        """Undo one thing, as far as it is not undone already.

        :param needs_glance: nobody can do it who does not ask Glance
        :param undone: what the entry says from then on
        :returns: whether it is undone
        """
        try:
            if is_due():
                if not self.is_rehearsal:
                    action()
                self._steps.append(Step(what, None, needs_glance))
        except exception.SnapshotError as error:
            self._steps.append(Step(what, error, needs_glance))
            return False
        self.is_undone(**undone)
        return True

    def is_undone(self, **undone: Any) -> None:
        """Take down what the entry says from now on."""
        if self._rest is not None:
            self._rest = dataclasses.replace(self._rest, **undone)

    def outcome(self) -> Outcome:
        return Outcome(self.name, self.uuid, tuple(self._steps))

    def settle(self, journal: Journal) -> None:
        """Have in the journal what is not undone."""
        if not any(step.error for step in self._steps):
            journal.forget(self.uuid)
            self._tell()
        elif self._rest is not None:
            journal.remember(_without_secrets(self._rest))

    def _tell(self) -> None:
        if self._steps:
            events.tell(
                LOG.info,
                Event.HEALED,
                f'Domain {self.name}: nothing is left of the snapshot that '
                'died',
                self.uuid,
            )


def _without_secrets(entry: Entry) -> Entry:
    """Those of a definition that is there again."""
    if entry.persistent:
        return entry
    definition = dataclasses.replace(entry.definition, xml='')
    return dataclasses.replace(entry, definition=definition)
