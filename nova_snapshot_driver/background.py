# SPDX-License-Identifier: Apache-2.0
"""Calls that may not return in time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

Result = TypeVar('Result')


def call(function: Callable[[], Result]) -> futures.Future[Result]:
    """Start a call in a thread that nobody has to wait for."""
    future: futures.Future[Result] = futures.Future()

    def work() -> None:
        try:
            future.set_result(function())
        # Whoever waits for it is to hear of anything that has ended it.
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
