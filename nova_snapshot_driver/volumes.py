# SPDX-License-Identifier: Apache-2.0
"""Snapshots in Cinder, one for each volume of a server: all, or none.

Source: ``nova.compute.api.API.snapshot_volume_backed``, which says what the
snapshots are called, what Cinder is asked for, and what the image is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import tenacity
from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import background
from nova_snapshot_driver import cinder
from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cinder import Cinder
from nova_snapshot_driver.cinder import Volume
from nova_snapshot_driver.cinder import VolumeSnapshot
from nova_snapshot_driver.context import Context
from nova_snapshot_driver.image import Image
from nova_snapshot_driver.instance import BlockDevices
from nova_snapshot_driver.progress import Progress
from nova_snapshot_driver.target import GlanceImage
from nova_snapshot_driver.target import Proof

LOG = logging.getLogger(__name__)

#: The metadata by which a snapshot in Cinder is known to be ours, whatever
#: became of the answer to the request for it: the id of the image.
MARK = 'nova_snapshot_image'

#: How often it is looked how far Cinder has come, in seconds: with few volumes
#: and, for each of them, with many.
POLL_INTERVAL = 0.1
POLL_INTERVAL_OF_MANY = 0.02

#: The same, while nothing stands still for it.
PATIENT_INTERVAL = 0.5

#: How long a request that was given up may still be under way, in seconds,
#: when Cinder answers again.
LATE_REQUEST = 5.0

#: Characters that Cinder takes. The name of an image may have as many.
LONGEST_NAME = 255

#: What an image without data has to be; Glance wants to be told.
DISK_FORMAT = 'raw'


@dataclasses.dataclass
class _Cut:
    """The snapshot of one volume.

    :ivar asked: Cinder was, or is about to be
    :ivar doubtful: it has given no answer, and may still make one
    :ivar made: what it has made of that
    """

    volume: Volume
    asked: bool = False
    doubtful: bool = False
    made: VolumeSnapshot | None = None


class VolumeSnapshots:
    """The snapshots of all volumes of one server.

    :param connect: the way to Cinder, with a token that is valid now
    :param image: its id, which they are marked with
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        connect: Callable[[], Cinder],
        image: str,
        devices: BlockDevices,
    ) -> None:
        self._conf = conf
        self._connect = connect
        self._image = image
        self._devices = devices
        self._cuts: list[_Cut] = []
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
        self._cuts = [
            _Cut(connection.volume(volume)) for volume in self.volumes
        ]
        room = connection.room_for_snapshots()
        if room is not None and room < len(self._cuts):
            raise exception.CinderOverLimit(
                endpoint=connection.endpoint,
                operation=f'{len(self._cuts)} snapshots',
                reason=f'there is room for {max(room, 0)}',
            )
        # Keystone is not to be asked while the guest stands still, and a
        # connection that has lain idle may be closed when it is needed.
        self._connection = self._connect()

    def cut(
        self, domain: str, until: float, cancellation: Cancellation
    ) -> None:
        """Have all volumes cut, side by side, while nobody writes to them.

        :param until: when that has to be done (``time.monotonic``)
        :raises VolumesNotCut: it was not
        :raises VolumeSnapshotFailed: a snapshot has come to nothing
        """
        connection = self._connection
        assert connection is not None  # noqa: S101 (for mypy)
        interval = max(POLL_INTERVAL, POLL_INTERVAL_OF_MANY * len(self._cuts))
        self._calls = [
            background.call(
                functools.partial(self._cut, connection, cut, interval)
            )
            for cut in self._cuts
        ]
        waiting = set(self._calls)
        while waiting:
            done, waiting = futures.wait(
                waiting,
                timeout=POLL_INTERVAL,
                return_when=futures.FIRST_COMPLETED,
            )
            for call in done:
                call.result()
            cancellation.check()
            if waiting and time.monotonic() > until:
                raise exception.VolumesNotCut(
                    domain=domain,
                    left=len(waiting),
                    total=len(self._cuts),
                    seconds=self._conf.snapshot.stillness_timeout,
                )

    def _cut(self, connection: Cinder, cut: _Cut, interval: float) -> None:
        """Have one volume cut; in a thread of its own."""
        if self._given_up.is_set():
            return
        cut.asked = True
        try:
            cut.made = connection.create_snapshot(
                cut.volume.id,
                self._name,
                cut.volume.description,
                {MARK: self._image},
            )
        except exception.CinderUnavailable:
            cut.doubtful = True
            raise
        while not _seen(cut.made).is_cut:
            if self._given_up.wait(interval):
                return
            # Whoever can't be asked now may answer in time.
            with contextlib.suppress(exception.CinderUnavailable):
                cut.made = connection.snapshot(cut.made.id)

    def wait_until_available(
        self, progress: Progress, cancellation: Cancellation
    ) -> None:
        """Wait until a server could be made from them.

        :raises VolumeSnapshotTimeout: they are not available in time
        :raises VolumeSnapshotFailed: one will never be
        """
        connection = self._connect()
        timeout = self._conf.snapshot.volume_timeout
        deadline = time.monotonic() + timeout
        total = len(self._cuts)
        while True:
            left = [cut for cut in self._cuts if not self._is_available(cut)]
            progress('volumes', total - len(left), total)
            if not left:
                return
            if time.monotonic() > deadline:
                raise exception.VolumeSnapshotTimeout(
                    left=len(left), total=total, seconds=timeout
                )
            cancellation.sleep(PATIENT_INTERVAL)
            for cut in left:
                with contextlib.suppress(exception.CinderUnavailable):
                    cut.made = _seen(connection.snapshot(self._id_of(cut)))

    def mapping(self) -> list[dict[str, Any]]:
        """The block devices of a server that is made from the image."""
        return [
            *(dict(other) for other in self._devices.others),
            *(
                {**volume.mapping, 'snapshot_id': self._id_of(cut)}
                for volume, cut in zip(
                    self._devices.volumes, self._cuts, strict=True
                )
            ),
        ]

    def ids(self) -> dict[str, str]:
        """The snapshots, by their volumes."""
        return {cut.volume.id: self._id_of(cut) for cut in self._cuts}

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        """Leave none of them where the context ends in an error.

        :raises VolumeSnapshotsLeftBehind: some can't be deleted
        """
        try:
            yield
        except BaseException as cause:
            # It is entered twice: within the journal, and around it.
            if not self._calls or self._is_discarded:
                raise
            self._is_discarded = True
            self._given_up.set()
            patience = self._conf.snapshot.volume_timeout
            # They end by themselves, as the requests have a timeout.
            _done, under_way = futures.wait(self._calls, patience)
            asked = [cut for cut in self._cuts if cut.asked]
            doubtful = under_way or any(cut.doubtful for cut in asked)
            try:
                discard(
                    self._connect,
                    self._image,
                    [cut.volume.id for cut in asked],
                    patience,
                    LATE_REQUEST if doubtful else 0,
                    cause,
                )
            except exception.VolumeSnapshotsLeftBehind as error:
                raise error from cause
            raise

    @staticmethod
    def _id_of(cut: _Cut) -> str:
        assert cut.made is not None  # noqa: S101 (for mypy)
        return cut.made.id

    @staticmethod
    def _is_available(cut: _Cut) -> bool:
        return cut.made is not None and cut.made.status == cinder.AVAILABLE


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


def discard(
    connect: Callable[[], Cinder],
    image: str,
    volumes: Iterable[str],
    patience: float,
    late: float,
    cause: object,
) -> None:
    """See that no snapshot is left that was made for an image.

    :param patience: the seconds after which it is given up
    :param late: the seconds in which one may still appear, once Cinder
        answers
    :param cause: why they are not wanted
    :raises VolumeSnapshotsLeftBehind: it has been given up
    """
    volumes = list(volumes)
    deadline = time.monotonic() + patience
    first_answer = None
    while True:
        reason = 'they are still there'
        try:
            connection = connect()
            found = _marked(connection, image, volumes)
            first_answer = first_answer or time.monotonic()
            if not found and time.monotonic() >= first_answer + late:
                return
            for snapshot in found:
                reason = _delete(connection, snapshot) or reason
        except (
            exception.CinderError,
            exception.CinderAccessUnavailable,
        ) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise exception.VolumeSnapshotsLeftBehind(
                cause=str(cause) or type(cause).__name__,
                reason=reason.rstrip('.'),
                volumes=', '.join(volumes),
                mark=MARK,
                image=image,
            )
        time.sleep(PATIENT_INTERVAL)


def _delete(connection: Cinder, snapshot: VolumeSnapshot) -> str | None:
    """
    :returns: why Cinder does not; one that is being made has to be there first
    """
    if snapshot.status == cinder.DELETING:
        return None
    LOG.info(
        'Snapshot %s of volume %s is deleted: its image will not be made',
        snapshot.id,
        snapshot.volume,
    )
    try:
        connection.delete_snapshot(snapshot.id)
    except exception.CinderError as error:
        return str(error)
    return None


def _marked(
    connection: Cinder, image: str, volumes: Iterable[str]
) -> list[VolumeSnapshot]:
    return [
        snapshot
        for volume in volumes
        for snapshot in connection.snapshots_of(volume)
        if snapshot.metadata.get(MARK) == image
    ]


class ImageOfVolumes(GlanceImage):
    """An image in Glance that is nothing but a mapping of snapshots.

    :ivar snapshots: that it maps
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        context: Context,
        image: str,
        devices: BlockDevices,
    ) -> None:
        super().__init__(conf, context, image)
        self.snapshots = VolumeSnapshots(
            conf, lambda: Cinder(context.cinder_access()), image, devices
        )

    @property
    def volumes(self) -> tuple[str, ...]:
        return self.snapshots.volumes

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        with (
            super().discarded_on_failure(),
            self.snapshots.discarded_on_failure(),
        ):
            yield

    def name(self) -> str:
        """What it is called."""
        return self._glance().get(self.image).name or ''

    def describe(self, properties: dict[str, Any]) -> Proof:
        """Write what it maps, and have it active.

        :raises ImageUnproven: Glance does not hold what was written
        """
        written = {
            **properties,
            'disk_format': DISK_FORMAT,
            'container_format': 'bare',
            # As upstream has it, for which all values are strings.
            'block_device_mapping': json.dumps(self.snapshots.mapping()),
            'bdm_v2': str(True),
        }
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                exception.GlanceUnavailable
            ),
            stop=tenacity.stop_after_attempt(
                1 + self._conf.glance.num_retries
            ),
            wait=tenacity.wait_exponential(max=5),
            reraise=True,
        )
        image = attempts(self._describe, written)
        self._prove(image, written)
        return Proof(0, None)

    def _describe(self, written: dict[str, Any]) -> Image:
        glance = self._glance()
        if glance.get(self.image).status != 'active':
            glance.update(self.image, **written)
            glance.activate_empty(self.image)
        return glance.get(self.image)

    def _prove(self, image: Image, written: dict[str, Any]) -> None:
        found = {
            **image.properties,
            'status': image.status,
            'size': image.size,
        }
        for field, sent in {
            'status': 'active',
            'size': 0,
            'block_device_mapping': written['block_device_mapping'],
        }.items():
            if found.get(field) != sent:
                raise exception.ImageUnproven(
                    image=self.image,
                    field=field,
                    stored=found.get(field),
                    sent=sent,
                )
