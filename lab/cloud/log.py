# SPDX-License-Identifier: Apache-2.0
"""The log of a service, from some moment on."""

import re
from pathlib import Path

from lab.bounded import wait_until
from lab.errors import LabTimeout

_TAIL = 3000


class ServiceLog:
    """The part of a service's log that is younger than this object.

    :param path: its log, to which it appends at every start
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = path.stat().st_size if path.exists() else 0

    @property
    def text(self) -> str:
        """All that was written."""
        if not self.path.exists():
            return ''
        with self.path.open('rb') as file:
            file.seek(self._offset)
            return file.read().decode(errors='replace')

    def grep(self, pattern: str) -> list[str]:
        """The lines in which the regular expression is found."""
        return [
            line for line in self.text.splitlines() if re.search(pattern, line)
        ]

    def wait(self, pattern: str, timeout: float) -> str:
        """Wait for a line in which the regular expression is found.

        :param timeout: seconds
        :return: the first such line
        :raises LabTimeout: it did not come; the message has the log's end
        """
        found: list[str] = []

        def written() -> bool:
            found[:] = self.grep(pattern)
            return bool(found)

        try:
            wait_until(written, f'{pattern!r}', timeout, interval=0.2)
        except LabTimeout as error:
            raise LabTimeout(
                f'{error} in {self.path}, which ends with:\n{self.tail()}'
            ) from error
        return found[0]

    def tail(self) -> str:
        """The last lines."""
        return self.text[-_TAIL:].strip()
