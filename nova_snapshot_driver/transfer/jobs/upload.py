# SPDX-License-Identifier: Apache-2.0
"""The upload: content goes to Glance, and is proven to be there."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.transfer.formats.content import Content
from nova_snapshot_driver.transfer.formats.content import File
from nova_snapshot_driver.transfer.formats.content import Hashed
from nova_snapshot_driver.transfer.formats.content import digest
from nova_snapshot_driver.transfer.jobs.image_data import CHUNK
from nova_snapshot_driver.transfer.jobs.image_data import ImageData
from nova_snapshot_driver.transfer.jobs.job import Parent
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from nova_snapshot_driver.transfer.nbd.patience import Patience
from nova_snapshot_driver.transfer.nbd.throttle import Throttle

#: The algorithm that Glance hashes with, unless it is told otherwise.
ALGORITHM = 'sha512'

#: Errors that may pass.
PASSING = (
    exception.GlanceUnavailable,
    exception.KeystoneUnavailable,
    exception.CloudUnavailable,
)

#: Seconds before the second attempt; doubled for each one after that.
PAUSE = 1
LONGEST_PAUSE = 30

#: How long Glance may take to see that an upload was broken off, in seconds.
SETTLE_TIMEOUT = 30

#: How often Glance is asked whether the image is still wanted, in seconds.
WATCH_INTERVAL = 4


def run(job: Upload, bounds: Bounds, parent: Parent) -> dict[str, int | str]:
    """Upload one file."""
    content = File(job.path)
    sent = send(content, job, bounds, parent)
    return {'size': content.size, ALGORITHM: sent}


def send(
    content: Content, job: Stream | Upload, bounds: Bounds, parent: Parent
) -> str:
    """Send content to Glance until it is proven to be there.

    Every attempt asks for the way to Glance anew: what was valid when the one
    before it began may have expired since.

    :returns: the SHA-512 of what was sent
    """
    image = job.image
    attempt = functools.partial(
        retry.call,
        on=PASSING,
        attempts=job.retries + 1,
        pause=PAUSE,
        longest_pause=LONGEST_PAUSE,
    )
    throttle = Throttle(bounds.bandwidth)
    least_rate = bounds.least_rate
    try:
        sent = attempt(
            lambda: _attempt(parent, image, content, throttle, least_rate),
            f'send the data of the image {image}',
        )
        attempt(
            lambda: prove(_image_data(parent, image), content, sent),
            f'prove the data of the image {image}',
        )
    except PASSING as error:
        raise exception.UploadFailed(
            image=image, attempts=job.retries + 1, reason=str(error)
        ) from error
    return sent


def settle(job: Stream, parent: Parent) -> None:
    """Wait until an image takes data again whose upload we have broken off."""
    data = _image_data(parent, job.image)

    def has_settled() -> bool:
        # The next attempt says what is the matter.
        with contextlib.suppress(*PASSING):
            return data.image().status != 'saving'
        return False

    wait.holds_within(has_settled, SETTLE_TIMEOUT)


def _access(parent: Parent) -> GlanceAccess:
    return GlanceAccess(**parent.glance_access())


def _image_data(parent: Parent, image: str) -> ImageData:
    return ImageData(_access(parent), image)


def _attempt(
    parent: Parent,
    image: str,
    content: Content,
    throttle: Throttle,
    least_rate: int,
) -> str:
    """Send all of it, from byte 0; returns the hash of what was sent."""
    access = _access(parent)
    data = ImageData(access, image)
    taker = _Taker(access, image, least_rate)
    hashed = Hashed(content, ALGORITHM)
    try:
        with (
            _watched(data) as watch,
            hashed.blocks() as blocks,
        ):

            def body() -> Iterator[memoryview]:
                done = 0
                for block in _pieces(blocks):
                    watch.check()
                    throttle.take(len(block))
                    with taker.taking(len(block)):
                        yield block
                    done += len(block)
                    parent.progress(done, content.size)

            data.send(body(), content.size)
    except exception.GlanceUnavailable:
        # Glance may have all data, with its answer lost.
        if _image_data(parent, image).image().status != 'active':
            raise
        return digest(content, ALGORITHM)
    return hashed.hexdigest()


def _pieces(blocks: Iterator[memoryview]) -> Iterator[memoryview]:
    for block in blocks:
        for begin in range(0, len(block), CHUNK):
            yield block[begin : begin + CHUNK]


class _Taker:
    """A Glance that takes what it is sent.

    Its silence is a matter of the connection; this is about one that takes a
    byte now and then.
    """

    def __init__(
        self, access: GlanceAccess, image: str, least_rate: int
    ) -> None:
        self._access = access
        self._image = image
        self._least_rate = least_rate
        self._patience = Patience(access.timeout, least_rate)

    @contextlib.contextmanager
    def taking(self, size: int) -> Iterator[None]:
        """
        :raises GlanceUnavailable: it is too slow
        """
        began = time.monotonic()
        yield
        self._patience.waited(time.monotonic() - began)
        if self._least_rate and self._patience.is_over():
            raise exception.GlanceUnavailable(
                endpoint=self._access.endpoint,
                operation='upload',
                image=self._image,
                reason=f'it has taken less than {self._least_rate >> 10} KiB '
                f'a second for {self._access.timeout} s (option [snapshot] '
                'least_rate)',
            )
        self._patience.served(size)


def prove(data: ImageData, content: Content, sent: str) -> None:
    """Compare what Glance says of an image with what was sent to it.

    :param sent: the SHA-512 of that
    :raises ImageVerificationFailed: it differs
    """
    stored = data.image()
    algorithm = stored.os_hash_algo or ALGORITHM
    if algorithm != ALGORITHM:
        sent = digest(content, algorithm)
    expected = {
        'status': 'active',
        'size': content.size,
        'os_hash_value': sent,
    }
    for field, value in expected.items():
        if getattr(stored, field) != value:
            raise exception.ImageVerificationFailed(
                image=stored.id,
                field=field,
                stored=getattr(stored, field),
                sent=value,
            )


class _Watch:
    """Looks whether an image is still there while its data are sent."""

    def __init__(self, data: ImageData) -> None:
        self._data = data
        self._ended = threading.Event()
        self._not_found: exception.ImageNotFound | None = None

    def run(self) -> None:
        while not self._ended.wait(WATCH_INTERVAL):
            try:
                self._data.image()
            except exception.ImageNotFound as error:
                self._not_found = error
                return
            except exception.GlanceError:
                # The upload itself meets what matters of it.
                continue

    def end(self) -> None:
        self._ended.set()

    def check(self) -> None:
        """
        :raises ImageNotFound: it was deleted
        """
        if self._not_found is not None:
            raise self._not_found


@contextlib.contextmanager
def _watched(data: ImageData) -> Iterator[_Watch]:
    watch = _Watch(data)
    threading.Thread(target=watch.run, daemon=True).start()
    try:
        yield watch
    finally:
        watch.end()
