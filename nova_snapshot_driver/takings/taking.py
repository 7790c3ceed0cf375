# SPDX-License-Identifier: Apache-2.0
"""A thing that a snapshot takes, with its undo.

The same record serves a live snapshot, which holds it for a while, and the
recovery from a dead one, which finds it in the journal.
"""

from __future__ import annotations

import abc
import contextlib
import enum
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import ClassVar
from typing import Self

from nova_snapshot_driver.common import codec
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.takings.tools import UndoTools


class Whose(enum.Enum):
    """From whom something is taken, or for what it is made."""

    #: Given back as soon as the data is read.
    GUEST = 'guest'
    #: Kept on the host until the snapshot has ended.
    HOST = 'host'
    #: Removed only where there will be no image, and then all together:
    #: nobody would know what a part on its own is.
    IMAGE = 'image'


class Taking(abc.ABC):
    """A thing that may be taken. Each kind is a frozen dataclass.

    :cvar KIND: the name in the journal
    :cvar AFTER: the kinds that have to be undone before, where there are any
    :cvar NEEDS_GLANCE: nobody can undo it who does not ask Glance
    :cvar STARTS_GUEST: the guest runs when it is undone
    """

    KIND: ClassVar[str]
    WHOSE: ClassVar[Whose]
    AFTER: ClassVar[frozenset[str]] = frozenset()
    NEEDS_GLANCE: ClassVar[bool] = False
    STARTS_GUEST: ClassVar[bool] = False

    @classmethod
    def suspected(cls, _tools: UndoTools) -> Iterable[Self]:
        """Takings of this kind that are possible though in no journal."""
        return ()

    @abc.abstractmethod
    def describe(self) -> str:
        """The undo, as one asks somebody to do it."""

    @abc.abstractmethod
    def state(self) -> str:
        """The state before the undo, in a word or two, without secrets."""

    def is_due(self, _tools: UndoTools) -> bool:
        """Whether the thing may be taken still.

        :raises SnapshotError: nobody can tell
        """
        return True

    @abc.abstractmethod
    def undo(self, tools: UndoTools) -> None:
        """Give the thing back, or remove it.

        :raises SnapshotError: the thing stays
        """

    def to_json(self) -> dict[str, Any]:
        return {'kind': self.KIND, **codec.fields_of(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """
        :param fields: without the kind
        :raises ValueError, TypeError: JSON describes no such record
        """
        found: Self = codec.built(cls, fields)
        return found


class HeldTaking(Taking):
    """A thing taken from a guest for as long as a context lasts.

    :cvar OPERATION: the undo, in an error
    """

    OPERATION: ClassVar[str]
    WHOSE = Whose.GUEST

    @abc.abstractmethod
    def do(self, tools: UndoTools) -> None:
        """Take the thing. A call that fails may have done so all the same."""

    @abc.abstractmethod
    def remedy(self, tools: UndoTools) -> str:
        """Advice for a person where the undo is refused."""

    @property
    def operation(self) -> str:
        return self.OPERATION

    @contextlib.contextmanager
    def held(self, tools: UndoTools) -> Iterator[None]:
        """Hold the thing inside.

        :raises UndoFailed: the thing could not be given back
        """
        try:
            self.do(tools)
            yield
        finally:
            undo.retry_undo(
                tools.domain,
                self.operation,
                lambda: self.undo(tools),
                self.remedy(tools),
            )
