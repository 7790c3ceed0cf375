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
    start(function, future)
    return future


def start(
    function: Callable[[], Result], future: futures.Future[Result]
) -> None:
    """Start a call whose future somebody knows already.

    :raises RuntimeError: there can be no other thread
    """

    threading.Thread(
        target=_work, args=(function, future), daemon=True
    ).start()


def _work(
    function: Callable[[], Result], future: futures.Future[Result]
) -> None:
    try:
        result = function()
    # The future passes on any exception that ends the call.
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:
        # The traceback of the error keeps this frame: no circle with it.
        del future
