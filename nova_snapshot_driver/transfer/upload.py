# SPDX-License-Identifier: Apache-2.0
"""The upload: a file goes to Glance, and is proven to be there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import IO
from typing import Any
from typing import Protocol

import tenacity

from nova_snapshot_driver import exception
from nova_snapshot_driver.image import Glance
from nova_snapshot_driver.image import GlanceAccess

#: What Glance hashes with, unless it is told otherwise.
ALGORITHM = 'sha512'

#: What may pass.
PASSING = (
    exception.GlanceUnavailable,
    exception.KeystoneUnavailable,
    exception.CloudUnavailable,
)

#: Seconds before the second attempt; doubled for each one after that.
PAUSE = 1
LONGEST_PAUSE = 30


class Parent(Protocol):
    def progress(self, done: int, total: int) -> None: ...

    def glance_access(self) -> dict[str, Any]: ...


def run(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Do one upload.

    Every attempt asks for the way to Glance anew: what was valid when the one
    before it began may have expired since.

    :param job: ``path`` of the file, ``image`` (its id in Glance), and
        ``retries``
    :raises UploadFailed: no attempt succeeded
    :raises ImageUnproven: Glance holds something else
    """
    image, path = job['image'], job['path']
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(PASSING),
        stop=tenacity.stop_after_attempt(job['retries'] + 1),
        wait=tenacity.wait_exponential(PAUSE, max=LONGEST_PAUSE),
        reraise=True,
    )
    try:
        digest = attempts(_attempt, parent, image, path)
        attempts(lambda: prove(_glance(parent), image, path, digest))
    except PASSING as error:
        raise exception.UploadFailed(
            image=image, attempts=job['retries'] + 1, reason=str(error)
        ) from error
    return {ALGORITHM: digest}


def _glance(parent: Parent) -> Glance:
    return Glance(GlanceAccess(**parent.glance_access()))


def _attempt(parent: Parent, image: str, path: str) -> str:
    """Send the whole file, from byte 0; returns the hash of what was sent."""
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        content = _Hashed(file, size, parent.progress)
        try:
            _glance(parent).upload(image, content, size)
        except exception.GlanceUnavailable:
            # It may be the answer alone that was lost.
            if _glance(parent).get(image).status != 'active':
                raise
            return _digest(path, ALGORITHM)
        return content.digest.hexdigest()


def prove(glance: Glance, image: str, path: str, digest: str) -> None:
    """Compare what Glance says of an image with what was sent to it.

    :param digest: the SHA-512 of what was sent
    :raises ImageUnproven: it differs
    """
    stored = glance.get(image)
    algorithm = stored.os_hash_algo or ALGORITHM
    if algorithm != ALGORITHM:
        digest = _digest(path, algorithm)
    sent = {
        'status': 'active',
        'size': os.path.getsize(path),
        'os_hash_value': digest,
    }
    for field, value in sent.items():
        if getattr(stored, field) != value:
            raise exception.ImageUnproven(
                image=image,
                field=field,
                stored=getattr(stored, field),
                sent=value,
            )


def _digest(path: str, algorithm: str) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(
        self,
        file: IO[bytes],
        size: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._file = file
        self._size = size
        self._progress = progress
        self.digest = hashlib.new(ALGORITHM)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self._progress(self._file.tell(), self._size)
        return data
