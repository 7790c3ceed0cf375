# SPDX-License-Identifier: Apache-2.0
"""The progress of a snapshot, as its observers are told it."""

from __future__ import annotations

from typing import Protocol

#: The steps whose progress is counted in bytes.
IN_BYTES = frozenset(
    {
        *('copy', 'stream', 'save', 'increment', 'verify', 'restore'),
        *('hash', 'update', 'upload'),
    }
)


class Progress(Protocol):
    """A function that is called often, and must not block."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """
        :param step: ``copy``, ``extract``, ``flatten``, ``stream``, ``save``,
            ``increment``, ``verify``, ``restore``, ``hash``, ``update``,
            ``upload`` or ``volumes``
        :param done: bytes, or any other share of the total
        """


def silent(step: str, done: int, total: int) -> None:
    """Report to nobody."""
