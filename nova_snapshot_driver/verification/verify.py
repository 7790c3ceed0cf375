# SPDX-License-Identifier: Apache-2.0
"""The verification of snapshots in Cinder: all of each is read, and hashed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.cinder_volumes import CinderVolumes
from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.snapshot.destination import volume_connection
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.worker import Worker
from nova_snapshot_driver.verification import recorded
from nova_snapshot_driver.verification.recorded import Recorded

LOG = logging.getLogger(__name__)

#: The errors that are about one snapshot; others may be intact.
OF_A_SNAPSHOT = (
    exception.CommandFailed,
    exception.SnapshotUnverifiable,
    exception.SourceUnreadable,
    exception.VolumeNotFound,
    exception.VolumeOutOfReach,
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result for one snapshot.

    :ivar name: as it was asked for
    :ivar recorded: its record; None where there is none
    :ivar found: the hash of what it has; None where it can't be read
    :ivar error: why not
    """

    name: str
    recorded: Recorded | None = None
    found: str | None = None
    error: exception.SnapshotError | None = None

    @property
    def is_intact(self) -> bool:
        return (
            self.recorded is not None
            and self.found == self.recorded.snapshot.tree
        )


@dataclasses.dataclass(frozen=True)
class Verifier:
    """Reads snapshots in Cinder.

    :ivar cloud: whose user may see them
    :ivar ceph: the way to the volumes
    :ivar secret: finds a secret of libvirt by its UUID
    """

    cloud: Context
    ceph: CephSettings
    secret: Callable[[str], str | None]
    worker: Worker

    def verify(self, names: Iterable[str]) -> Iterator[Finding]:
        """Verify snapshots, each when the one before is dealt with.

        :param names: of the snapshots: the ids of their images, or their own
        :raises SnapshotError: what is no fault of one of them, such as a
            Cinder that is out of reach
        """
        for name in names:
            record = None
            try:
                record = recorded.find(name, self.cloud)
                yield Finding(name, record, self._hash(record))
            except OF_A_SNAPSHOT as error:
                yield Finding(name, record, error=error)

    def _hash(self, snapshot: Recorded) -> str:
        """The hash of what a snapshot has."""
        volume = snapshot.volume
        with self._reached(volume) as connection:
            view = volume_connection.view_of(
                volume,
                connection,
                snapshot.snapshot.size,
                self.ceph,
                self.secret,
                lambda: _no_passphrase(volume),
            )
            at = dataclasses.replace(
                view,
                snapshot=volume_connection.snapshot_name(snapshot.snapshot.id),
            )
            return self.worker.run(
                lambda directory: Hash(
                    at, os.path.join(directory, 'leaves'), directory
                )
            )

    @contextlib.contextmanager
    def _reached(self, volume: str) -> Iterator[Mapping[str, Any]]:
        """How this host reaches a volume, which it may read meanwhile."""
        connector = volume_connection.connector()
        connection = self._cinder().reach(volume, connector)
        try:
            yield connection
        finally:
            # The result counts, whether Cinder hears of the end or not.
            try:
                self._cinder().let_go(volume, connector)
            except exception.SnapshotError as error:
                LOG.warning('After the verification: %s', error)

    def _cinder(self) -> CinderVolumes:
        """The way to Cinder, with a token that is valid now."""
        return CinderVolumes(self.cloud.cinder_access())


def _no_passphrase(volume: str) -> bytes:
    raise exception.VolumeOutOfReach(
        volume=volume,
        reason='it is encrypted, and Nova alone may read its key',
    )
