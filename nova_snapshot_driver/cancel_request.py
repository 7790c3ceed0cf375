# SPDX-License-Identifier: Apache-2.0
"""How one process of the host asks the snapshot in another one to stop."""

from __future__ import annotations

import contextlib
import os

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver import journal

LOG = logging.getLogger(__name__)


class CancelRequest:
    """A request to stop the snapshot of a domain: a file, or none.

    Whoever heeds it takes it away, and so does the next snapshot of the
    domain, which it was not meant for. What is in the file does not matter:
    it may be that of root, and nova-compute of another user.

    :param directory: ``[snapshot] state_directory``
    """

    def __init__(self, directory: str, uuid: str) -> None:
        self._directory = directory
        self._uuid = uuid
        self._path = journal.passing(directory, uuid, journal.CANCEL)

    def make(self) -> None:
        """
        :raises DirectoryUnusable: it can't be made
        """
        try:
            open(self._path, 'w', opener=journal.private).close()
        except OSError as error:
            raise exception.DirectoryUnusable(
                directory=self._directory,
                reason=error.strerror,
                option='[snapshot] state_directory',
            ) from error

    def heed(self) -> exception.SnapshotError | None:
        """Take it away; returns the error to stop with, if there was one."""
        if not self.is_open():
            return None
        LOG.info(
            'The snapshot is cancelled by an operator',
            instance_uuid=self._uuid,
        )
        self.withdraw()
        return exception.CancelledByOperator(reason='nova-snapshot cancel')

    def is_open(self) -> bool:
        """It is made, and not heeded yet."""
        return os.path.lexists(self._path)

    def withdraw(self) -> None:
        # One that stays is only taken away later.
        with contextlib.suppress(OSError):
            os.unlink(self._path)
