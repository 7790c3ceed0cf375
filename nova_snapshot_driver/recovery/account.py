# SPDX-License-Identifier: Apache-2.0
"""The account of a dead snapshot: what is undone, and what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.tools import UndoTools

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of the undo.

    :ivar what: in words, as one asks somebody to do it
    :ivar error: why it is not undone; None if it is, or is to be
    :ivar needs_glance: nobody can do it who does not ask Glance
    """

    what: str
    error: exception.SnapshotError | None = None
    needs_glance: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of the undo on one domain.

    :ivar domain: its name, or its UUID where that alone is known; None for
        the host, as is the next
    """

    domain: str | None
    uuid: str | None
    steps: tuple[Step, ...]

    @property
    def is_healed(self) -> bool:
        """Whether there was something to undo, and nothing of it is left."""
        return bool(self.steps) and not self.errors

    @property
    def errors(self) -> list[exception.SnapshotError]:
        return [step.error for step in self.steps if step.error is not None]

    @property
    def errors_without_glance(self) -> list[exception.SnapshotError]:
        """The errors of steps that need no answer of Glance."""
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


class RecoveryLog:
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
        self._left: list[Taking] = []
        self._steps: list[Step] = []

    def undo(self, taking: Taking, tools: UndoTools) -> None:
        """Undo one thing, unless it is undone already or has to wait."""
        if any(other.KIND in taking.AFTER for other in self._left):
            self._left.append(taking)
            return
        what = taking.describe()
        try:
            with undo.under_way():
                if taking.is_due(tools):
                    if not self.is_rehearsal:
                        taking.undo(tools)
                    self._steps.append(Step(what, None, taking.NEEDS_GLANCE))
        except exception.SnapshotError as error:
            self._steps.append(Step(what, error, taking.NEEDS_GLANCE))
            self._left.append(taking)

    def leave(self, taking: Taking) -> None:
        """Note a taking that can't be undone now."""
        self._left.append(taking)

    def can_see(self, what: str, look: Callable[[], None]) -> bool:
        """Have a look, without which nobody knows what is to be undone.

        :returns: whether it could be had
        """
        try:
            with undo.under_way():
                look()
        except exception.SnapshotError as error:
            self._steps.append(Step(what, error))
            return False
        return True

    def outcome(self) -> Outcome:
        return Outcome(self.name, self.uuid, tuple(self._steps))

    def settle(self, journal: Journal) -> None:
        """Have in the journal what is not undone."""
        if not any(step.error for step in self._steps):
            journal.forget(self.uuid)
            self._tell()
        elif self.entry is not None:
            journal.remember(self._rest(self.entry))

    def _rest(self, entry: Entry) -> Entry:
        """The rest of an entry, without what is undone.

        Takings for an image are kept together.
        """
        is_image_left = any(each.WHOSE is Whose.IMAGE for each in self._left)
        rest = (
            each
            for each in entry.takings
            if each in self._left
            or (is_image_left and each.WHOSE is Whose.IMAGE)
        )
        return dataclasses.replace(entry, takings=tuple(rest))

    def _tell(self) -> None:
        if self._steps:
            events.log_event(
                LOG.info,
                Event.HEALED,
                f'Domain {self.name}: nothing is left of the snapshot that '
                'died',
                self.uuid,
            )
