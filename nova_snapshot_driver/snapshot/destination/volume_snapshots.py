# SPDX-License-Identifier: Apache-2.0
"""Snapshots in Cinder, one for each volume of a server: all, or none.

Source: ``nova.compute.api.API.snapshot_volume_backed``, which says what the
snapshots are called, what Cinder is asked for, and what the image is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import cinder
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.cinder import Volume
from nova_snapshot_driver.clients.cinder import VolumeSnapshot
from nova_snapshot_driver.common import background
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.snapshot.destination.settings import (
    DestinationSettings,
)
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices
from nova_snapshot_driver.takings import cinder_snapshots

#: How often it is looked how far Cinder has come, in seconds: with few volumes
#: and, for each of them, with many.
POLL_INTERVAL = 0.1
POLL_INTERVAL_OF_MANY = 0.02

#: Characters that Cinder takes. The name of an image may have as many.
LONGEST_NAME = 255


@dataclasses.dataclass
class _Wanted:
    """The snapshot that one volume is to have.

    :ivar asked: Cinder was, or is about to be
    :ivar doubtful: it has given no answer, and may still make one
    :ivar made: what it has made of that
    """

    volume: Volume
    asked: bool = False
    doubtful: bool = False
    made: VolumeSnapshot | None = None

    @property
    def id(self) -> str:
        """The id of what Cinder has made."""
        assert self.made is not None  # noqa: S101 (for mypy)
        return self.made.id

    @property
    def is_available(self) -> bool:
        return self.made is not None and self.made.status == cinder.AVAILABLE


class VolumeSnapshots:
    """The snapshots of all volumes of one server.

    :param connect: the way to Cinder, with a token that is valid now
    :param image: its id, which they are marked with
    """

    def __init__(
        self,
        settings: DestinationSettings,
        connect: Callable[[], Cinder],
        image: str,
        devices: BlockDevices,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._image = image
        self._devices = devices
        self._wanted: list[_Wanted] = []
        self._calls: list[futures.Future[None]] = []
        self._given_up = threading.Event()
        self._is_discarded = False
        self._name = ''
        self._connection: Cinder | None = None

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(volume.id for volume in self._devices.volumes)

    def prepare(self, name: str) -> None:
        """See that there can be snapshots, before anything stands still.

        :param name: of the image
        :raises VolumeNotFound: a volume is not there
        :raises CinderOverLimit: the quota of the project is too small
        """
        connection = self._connect()
        self._name = f'snapshot for {name}'[:LONGEST_NAME]
        self._wanted = [
            _Wanted(connection.volume(volume)) for volume in self.volumes
        ]
        room = connection.room_for_snapshots()
        if room is not None and room < len(self._wanted):
            raise exception.CinderOverLimit(
                endpoint=connection.endpoint,
                operation=f'{len(self._wanted)} snapshots',
                reason=f'there is room for {max(room, 0)}',
            )
        # Keystone is not to be asked while the guest stands still, and a
        # connection that has lain idle may be closed when it is needed.
        self._connection = self._connect()

    def create(
        self, domain: str, until: float, cancellation: Cancellation
    ) -> None:
        """Create all snapshots, side by side, while nobody writes.

        All of them are points in time afterwards.

        :param until: when all have to be created (by ``wait.CLOCK``)
        :raises VolumeSnapshotsNotCreated: some were not in time
        :raises VolumeSnapshotFailed: a snapshot has come to nothing
        """
        connection = self._connection
        assert connection is not None  # noqa: S101 (for mypy)
        interval = max(
            POLL_INTERVAL, POLL_INTERVAL_OF_MANY * len(self._wanted)
        )
        self._calls = [
            background.call(
                functools.partial(self._create, connection, wanted, interval)
            )
            for wanted in self._wanted
        ]
        # The wait ends with the last snapshot, not with the next look.
        if not wait.holds_within(
            self._are_created,
            until - wait.CLOCK.monotonic(),
            interval=0,
            cancellation=cancellation,
        ):
            raise exception.VolumeSnapshotsNotCreated(
                domain=domain,
                left=sum(not call.done() for call in self._calls),
                total=len(self._wanted),
                seconds=self._settings.stall_timeout,
            )

    def _are_created(self) -> bool:
        """Wait a little; whether all snapshots are created."""
        done, waiting = futures.wait(
            self._calls,
            timeout=POLL_INTERVAL,
            return_when=futures.FIRST_EXCEPTION,
        )
        for call in done:
            call.result()
        return not waiting

    def _create(
        self, connection: Cinder, wanted: _Wanted, interval: float
    ) -> None:
        """Create one snapshot; in a thread of its own."""
        if self._given_up.is_set():
            return
        wanted.asked = True
        try:
            wanted.made = connection.create_snapshot(
                wanted.volume.id,
                self._name,
                wanted.volume.description,
                {cinder_snapshots.MARK: self._image},
            )
        except exception.CinderUnavailable:
            wanted.doubtful = True
            raise
        while not _seen(wanted.made).is_point_in_time:
            if self._given_up.wait(interval):
                return
            # A Cinder that can't be asked now may answer in time.
            with contextlib.suppress(exception.CinderUnavailable):
                wanted.made = connection.snapshot(wanted.made.id)

    def wait_until_available(
        self, progress: Progress, cancellation: Cancellation
    ) -> None:
        """Wait until a server could be made from the snapshots.

        :raises VolumeSnapshotTimeout: some are not available in time
        :raises VolumeSnapshotFailed: a snapshot will never be available
        """
        connection = self._connect()
        timeout = self._settings.volume_timeout
        total = len(self._wanted)

        def are_available() -> bool:
            for wanted in self._unavailable():
                with contextlib.suppress(exception.CinderUnavailable):
                    wanted.made = _seen(connection.snapshot(wanted.id))
            left = len(self._unavailable())
            progress('volumes', total - left, total)
            return not left

        if not wait.holds_within(
            are_available,
            timeout,
            interval=cinder_snapshots.PATIENT_INTERVAL,
            cancellation=cancellation,
        ):
            raise exception.VolumeSnapshotTimeout(
                left=len(self._unavailable()), total=total, seconds=timeout
            )

    def _unavailable(self) -> list[_Wanted]:
        return [each for each in self._wanted if not each.is_available]

    def mapping(self) -> list[dict[str, Any]]:
        """The block devices of a server that is made from the image."""
        return [
            *(dict(other) for other in self._devices.others),
            *(
                {**volume.mapping, 'snapshot_id': wanted.id}
                for volume, wanted in zip(
                    self._devices.volumes, self._wanted, strict=True
                )
            ),
        ]

    def ids(self) -> dict[str, str]:
        """The snapshots, by their volumes."""
        return {wanted.volume.id: wanted.id for wanted in self._wanted}

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        """Leave no snapshot where the context ends in an error.

        :raises VolumeSnapshotsLeftBehind: some can't be deleted
        """
        try:
            yield
        except BaseException as cause:
            # The context is entered twice: within the journal, and around it.
            if not self._calls or self._is_discarded:
                raise
            self._is_discarded = True
            self._given_up.set()
            patience = self._settings.volume_timeout
            # The calls end by themselves, as their requests have a timeout.
            _done, under_way = futures.wait(self._calls, patience)
            asked = [wanted for wanted in self._wanted if wanted.asked]
            doubtful = under_way or any(wanted.doubtful for wanted in asked)
            try:
                cinder_snapshots.discard(
                    self._connect,
                    self._image,
                    [wanted.volume.id for wanted in asked],
                    patience,
                    cinder_snapshots.LATE_REQUEST if doubtful else 0,
                    cause,
                )
            except exception.VolumeSnapshotsLeftBehind as error:
                raise error from cause
            raise


def _seen(snapshot: VolumeSnapshot) -> VolumeSnapshot:
    """
    :raises VolumeSnapshotFailed: it has come to nothing
    """
    if snapshot.is_hopeless:
        raise exception.VolumeSnapshotFailed(
            volume=snapshot.volume,
            snapshot=snapshot.id,
            status=snapshot.status,
        )
    return snapshot
