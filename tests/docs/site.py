# SPDX-License-Identifier: Apache-2.0
"""The built documentation, served to a headless browser."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator
from http import server
from typing import Any

from selenium import webdriver

ROOT = pathlib.Path(__file__).parents[2] / 'doc/build/html'


class _SilentHandler(server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Keep requests out of the output of the tests."""


def paths() -> list[str]:
    """The paths of all pages in the site."""
    found = [str(path.relative_to(ROOT)) for path in ROOT.rglob('*.html')]
    if not found:
        raise LookupError(f'No page in {ROOT}: build them with "make docs"')
    return sorted(found)


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the site.

    :returns: its address
    """
    handler = functools.partial(_SilentHandler, directory=str(ROOT))
    with server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f'http://127.0.0.1:{web.server_port}'
        finally:
            web.shutdown()
            thread.join()


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Start a browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program('chromium')
    for argument in (
        'headless',
        'hide-scrollbars',
        'force-prefers-reduced-motion',
        # A container has little shared memory.
        'disable-dev-shm-usage',
        'disable-background-networking',
    ):
        options.add_argument(f'--{argument}')
    if os.geteuid() == 0:
        # Chromium refuses to sandbox what root runs.
        options.add_argument('--no-sandbox')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(
        options, webdriver.ChromeService(_program('chromedriver'))
    )
    try:
        yield driver
    finally:
        driver.quit()


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise LookupError(f'No {name}: install it with "tools/setup.sh docs"')
    return path
