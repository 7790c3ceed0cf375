# SPDX-License-Identifier: Apache-2.0
"""How one process of the host asks the snapshot in another one to stop."""

from __future__ import annotations

import contextlib
import os

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import locks

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

    def make(self) -> None:
        """
        :raises DirectoryUnusable: it can't be made
        """
        try:
            with Directory.open(self._directory) as files:
                files.write(self._name, b'')
        except OSError as error:
            raise journal.unusable(error, self._directory) from error

    def consume(self) -> exception.SnapshotError | None:
        """Heed the request, if there is one.

        :returns: the error to stop with; None where nobody wants to stop
        """
        if not self.is_open():
            return None
        LOG.info(
            'The snapshot is cancelled by an operator',
            instance_uuid=self._uuid,
        )
        self.withdraw()
        return exception.CancelledByOperator(reason='nova-snapshot cancel')

    def is_open(self) -> bool:
        """Whether the request is made, and not heeded yet."""
        return os.path.lexists(os.path.join(self._directory, self._name))

    def withdraw(self) -> None:
        # A request that stays is taken away by the next snapshot.
        with (
            contextlib.suppress(OSError),
            Directory.open(self._directory) as files,
        ):
            files.remove(self._name)
