# SPDX-License-Identifier: Apache-2.0
"""Images in Ceph, as far as they are handled without their data.

Ceph's own commands do it, which Nova's driver needs too wherever a disk is in
Ceph. A child process can be waited for with a bound, and ended: a call of
librbd in this process could not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib import parse

from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.qemu_img import PATH
from nova_snapshot_driver.common import children
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.view import RbdImage

#: How long a command that moves no data may take, in seconds.
TIMEOUT = 60

#: How long the removal of an image may take, in seconds: no data moves, but
#: there may be many objects to delete.
REMOVE_TIMEOUT = 600

#: How long the removal waits for an image that a client has open, in seconds.
#: Ceph takes a dead client for alive for half a minute.
IN_USE_TIMEOUT = 90

#: How long to look for a snapshot whose creation was broken off, in seconds:
#: the guest's QEMU creates it, and may still do so.
LATE_SNAPSHOT = 10

POLL_INTERVAL = 1.0

#: The name of the snapshot that Glance keeps of each of its images in Ceph.
GLANCE_SNAPSHOT = 'snap'


@dataclasses.dataclass(frozen=True)
class Clone:
    """A disk that is cloned, by way of a snapshot, to become an image.

    :ivar disk: the source of the clone
    :ivar snapshot: the name of the snapshot of the disk
    :ivar image: the clone, in the pool of Glance, under the name that Glance
        would give it
    :ivar cluster: the id of the cluster that holds both
    """

    disk: RbdImage
    snapshot: str
    image: RbdImage
    cluster: str

    @property
    def url(self) -> str:
        """The URL of the image, in the form of Glance's locations."""
        pieces = (
            *(self.cluster, self.image.pool, self.image.name),
            GLANCE_SNAPSHOT,
        )
        return 'rbd://' + '/'.join(parse.quote(piece, '') for piece in pieces)


def pool_in(url: str, cluster: str) -> str | None:
    """The pool of a location in a cluster; None if it is elsewhere.

    :param url: of the data of an image in Glance
    """
    scheme, _, path = url.partition('://')
    match scheme, [parse.unquote(piece) for piece in path.split('/')]:
        case 'rbd', [found, pool, name, snapshot] if found == cluster:
            return pool if pool and name and snapshot else None
    return None


@dataclasses.dataclass(frozen=True)
class CephSettings:
    """The way to Ceph.

    :ivar user: None for that of each disk
    :ivar conf: the file of its configuration; empty for the usual one
    """

    user: str | None = None
    conf: str = ''


class Ceph:
    """A Ceph cluster, and a user of it.

    Every method raises ``CephError`` for what a command refuses, and
    ``CommandMissing``.

    :param user: None for that of the command
    """

    def __init__(self, settings: CephSettings, user: str | None) -> None:
        user = settings.user or user
        self._client = [
            *(['--id', user] if user else []),
            *(['--conf', settings.conf] if settings.conf else []),
        ]

    # Inspection

    def cluster(self) -> str:
        """The id of the cluster."""
        return self._run('ceph', 'fsid', 'read the id of the cluster').strip()

    def parent(self, image: RbdImage) -> tuple[RbdImage, str] | None:
        """The parent of a clone, and its snapshot; None for another image.

        :raises CephNotFound: there is no such image
        :raises CephDenied: the user may not look into the pool
        """
        parent = self._info(image).get('parent')
        if not parent:
            return None
        return RbdImage(parent['pool'], parent['image']), parent['snapshot']

    def size(self, image: RbdImage) -> int:
        """The size of an image in bytes.

        :raises CephNotFound: there is no such image
        """
        return int(self._info(image)['size'])

    def _info(self, image: RbdImage) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            self._rbd('info', image, '--format', 'json')
        )
        return answer

    def _snapshots(self, image: RbdImage) -> dict[str, bool]:
        """The snapshots of an image by name, and whether each is protected."""
        found = json.loads(self._rbd('snap ls', image, '--format', 'json'))
        # Older versions of rbd print the boolean as a word.
        return {
            each['name']: str(each['protected']).lower() == 'true'
            for each in found
        }

    # Creation

    def create_snapshot(
        self, image: RbdImage, name: str, timeout: int
    ) -> None:
        """Create a snapshot of an image.

        :param timeout: in seconds; short where the guest is frozen meanwhile
        """
        self._rbd('snap create', image, '--snap', name, timeout=timeout)

    def protect(self, image: RbdImage, snapshot: str) -> None:
        """Protect a snapshot, so that it can be cloned."""
        self._rbd('snap protect', image, '--snap', snapshot)

    def clone(self, clone: Clone) -> None:
        """Create an image that shares the data of the snapshot."""
        self._rbd(
            'clone',
            clone.disk,
            *('--snap', clone.snapshot),
            *('--dest-pool', clone.image.pool, '--dest', clone.image.name),
        )

    def to_flatten(self, image: RbdImage) -> list[str]:
        """The command that copies all shared data into a clone.

        Its time grows with the data.
        """
        return ['rbd', 'flatten', *self._client, *_named(image)]

    # Removal, for which a missing image or snapshot is no error

    def remove_snapshot(
        self, image: RbdImage, name: str, patience: float = 0
    ) -> None:
        """Remove a snapshot of an image, if it exists.

        :param patience: the seconds to wait for a snapshot that may still be
            created
        """
        found: dict[str, bool] = {}

        def is_there() -> bool:
            found.update(self._snapshots(image))
            return name in found

        with contextlib.suppress(exception.CephNotFound):
            if not wait.holds_within(
                is_there, patience, interval=POLL_INTERVAL
            ):
                return
            if found[name]:
                self._rbd('snap unprotect', image, '--snap', name)
            self._rbd('snap rm', image, '--snap', name)

    def remove(self, image: RbdImage) -> None:
        """Remove an image, or the half-made remains of one.

        An image that a client has open is waited for: the process that copied
        data into it may just have been ended.
        """
        with contextlib.suppress(exception.CephDenied):
            self.remove_snapshot(image, GLANCE_SNAPSHOT)
        try:
            retry.call(
                lambda: self._rbd('rm', image, timeout=REMOVE_TIMEOUT),
                f'remove the image {image} in Ceph',
                _is_in_use,
                timeout=IN_USE_TIMEOUT,
                pause=POLL_INTERVAL,
            )
        except exception.CephNotFound:
            return
        except exception.CephDenied:
            # Ceph answers so for a missing image too.
            if self._can_be_seen(image):
                raise

    def _can_be_seen(self, image: RbdImage) -> bool:
        """Whether the image exists, for this user."""
        try:
            self._info(image)
        except (exception.CephNotFound, exception.CephDenied):
            return False
        return True

    def _rbd(
        self,
        operation: str,
        image: RbdImage,
        *arguments: str,
        timeout: int = TIMEOUT,
    ) -> str:
        return self._run(
            'rbd',
            operation,
            f'{operation} {image}',
            *_named(image),
            *arguments,
            timeout=timeout,
        )

    def _run(
        self,
        program: str,
        command: str,
        operation: str,
        *arguments: str,
        timeout: int = TIMEOUT,
    ) -> str:
        try:
            output, _ = processutils.execute(
                program,
                *command.split(),
                *self._client,
                *arguments,
                timeout=timeout,
                on_completion=_end,
                env_variables=children.environment(LC_ALL='C', PATH=PATH),
            )
        except processutils.ProcessExecutionError as error:
            raise failure(
                operation, int(error.exit_code or 0), error.stderr or ''
            ) from error
        except subprocess.TimeoutExpired as error:
            raise exception.CephTimeout(
                operation=operation,
                status=errno.ETIMEDOUT,
                reason=f'no end within {timeout} s',
            ) from error
        except FileNotFoundError:
            raise exception.CommandMissing(
                command=program, package='ceph-common'
            ) from None
        return str(output)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command that has timed out, which would go on otherwise."""
    if process.poll() is None:
        process.kill()
        process.wait()


def _is_in_use(error: BaseException) -> bool:
    return (
        isinstance(error, exception.CephError)
        and error.fields['status'] == errno.EBUSY
    )


def _named(image: RbdImage) -> list[str]:
    return ['--pool', image.pool, '--image', image.name]


def failure(operation: str, status: int, output: str) -> exception.CephError:
    """The error that a failed command stands for.

    :param status: an ``errno``
    :param output: its standard error
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Other lines are the log of a library, in any order.
    said = [line for line in lines if line.startswith(('rbd:', 'Error'))]
    # ENOENT and EACCES also stand for a missing configuration or keyring.
    is_known = 'connect to the cluster' not in output
    match status:
        case errno.ENOENT if is_known:
            kind: type[exception.CephError] = exception.CephNotFound
        case errno.EPERM | errno.EACCES if (
            is_known and os.strerror(status) in output
        ):
            kind = exception.CephDenied
        case errno.ENOSPC | errno.EDQUOT:
            kind = exception.CephFull
        case errno.ETIMEDOUT:
            kind = exception.CephTimeout
        case _:
            kind = exception.CephError
    return kind(
        operation=operation,
        status=status,
        reason=(said or lines or ['it does not say why'])[-1],
    )


@contextlib.contextmanager
def refusals(domain: str) -> Iterator[None]:
    """Tell a refusal that leaves another method open from a final failure.

    Nova's own driver falls back where it may not write in the pool of Glance,
    or finds no pool. Here every error allows the fallback which another method
    does not share for certain.

    :raises CloneRefused: the snapshot can be taken by another method
    """
    try:
        yield
    except (exception.CephFull, exception.CephTimeout):
        raise
    except (exception.CephError, exception.CommandMissing) as error:
        raise exception.CloneRefused(
            domain=domain, reason=str(error).rstrip('.')
        ) from error
