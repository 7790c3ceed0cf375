# SPDX-License-Identifier: Apache-2.0
"""How one process of the host asks the snapshot in another one to stop."""

from __future__ import annotations

import contextlib
import os

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.state import locks
from nova_snapshot_driver.state import state_directory

LOG = logging.getLogger(__name__)


class CancelRequest:
    """A request to stop the snapshot of a domain: a file, or none.

    Whoever heeds it takes it away, and so does the next snapshot of the
    domain, which it was not meant for. Nothing is in the file.

    :param directory: ``[snapshot] state_directory``
    """

    def __init__(self, directory: str, uuid: str) -> None:
        self._directory = directory
        self._uuid = uuid
        self._name = locks.sidecar_path(uuid, locks.CANCEL)
        self._is_deaf = False

    def make(self) -> None:
        """
        :raises DirectoryUnusable: it can't be made
        """
        try:
            with Directory.open(self._directory) as files:
                files.write(self._name, b'')
        except OSError as error:
            raise state_directory.unusable(error, self._directory) from error

    def consume(self) -> exception.SnapshotError | None:
        """Heed the request, if there is one.

        :returns: the error to stop with; None where nobody wants to stop
        """
        try:
            if not self.is_open():
                return None
        except exception.SnapshotError as error:
            # The snapshot can go on; who wants to stop it is told in vain.
            self._say_once(error)
            return None
        LOG.info(
            'The snapshot is cancelled by an operator',
            instance_uuid=self._uuid,
        )
        self.withdraw()
        return exception.CancelledByOperator(reason='nova-snapshot cancel')

    def is_open(self) -> bool:
        """Whether the request is made, and not heeded yet.

        :raises SnapshotError: nobody can tell
        """
        with state_directory.opened(self._directory) as files:
            try:
                return files.has(self._name)
            except OSError as error:
                path = os.path.join(self._directory, self._name)
                raise state_directory.unreadable(error, path) from error

    def _say_once(self, error: exception.SnapshotError) -> None:
        if not self._is_deaf:
            self._is_deaf = True
            LOG.warning(
                '"nova-snapshot cancel" can not stop the snapshot: %s',
                error,
                instance_uuid=self._uuid,
            )

    def withdraw(self) -> None:
        # A request that stays is taken away by the next snapshot.
        with (
            contextlib.suppress(OSError),
            Directory.open(self._directory) as files,
        ):
            files.remove(self._name)
