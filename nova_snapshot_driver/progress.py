# SPDX-License-Identifier: Apache-2.0
"""How far a snapshot has come, for whoever waits for it."""

from __future__ import annotations

from typing import Protocol

#: The steps whose progress is counted in bytes.
IN_BYTES = frozenset({'copy', 'stream', 'save', 'upload'})


class Progress(Protocol):
    """Called often, and not to be kept waiting."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """
        :param step: ``copy``, ``extract``, ``flatten``, ``stream``, ``save``,
            ``upload`` or ``volumes``
        :param done: bytes, or any other share of the total
        """


def silent(step: str, done: int, total: int) -> None:
    """Nobody waits."""
