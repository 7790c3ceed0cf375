# SPDX-License-Identifier: Apache-2.0
"""Images in Ceph, as far as they are handled without their data.

By Ceph's own commands, which Nova's driver needs too wherever a disk is in
Ceph. A process of its own can be waited for with a bound, and ended: a call of
librbd in this one could not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib import parse

from oslo_concurrency import processutils
from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import RbdImage
from nova_snapshot_driver.qemu_img import PATH

#: How long a command may take that moves no data, in seconds.
TIMEOUT = 60

#: How long a command may take that removes an image, in seconds: it moves
#: none, but there may be many objects.
REMOVE_TIMEOUT = 600

#: How long an image is waited for that somebody has open, in seconds. Ceph
#: takes a client that has died for alive for half a minute.
IN_USE_TIMEOUT = 90

#: How long a snapshot is looked for whose making was broken off: the guest's
#: QEMU makes it, and may still do so.
LATE_SNAPSHOT = 10

POLL_INTERVAL = 1.0

#: That of all images that Glance keeps in Ceph.
GLANCE_SNAPSHOT = 'snap'


@dataclasses.dataclass(frozen=True)
class Clone:
    """A disk that is cloned, by way of a snapshot, to become an image.

    :ivar disk: that is cloned
    :ivar snapshot: the name of the snapshot of it
    :ivar image: the clone, in the pool of Glance, and called as Glance calls
        its own
    :ivar cluster: the id of the cluster that all of it is in
    """

    disk: RbdImage
    snapshot: str
    image: RbdImage
    cluster: str

    @property
    def url(self) -> str:
        """Where the image is, in the words of Glance."""
        pieces = (
            *(self.cluster, self.image.pool, self.image.name),
            GLANCE_SNAPSHOT,
        )
        return 'rbd://' + '/'.join(parse.quote(piece, '') for piece in pieces)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Clone:
        """What ``dataclasses.asdict`` has made of one."""
        disk, image = fields.pop('disk'), fields.pop('image')
        return cls(RbdImage(**disk), image=RbdImage(**image), **fields)


def pool_in(url: str, cluster: str) -> str | None:
    """The pool of a location in a cluster; None if it is elsewhere.

    :param url: of the data of an image in Glance
    """
    scheme, _, path = url.partition('://')
    match scheme, [parse.unquote(piece) for piece in path.split('/')]:
        case 'rbd', [found, pool, name, snapshot] if found == cluster:
            return pool if pool and name and snapshot else None
    return None


class Ceph:
    """A Ceph cluster, and a user of it.

    Every method raises ``CephError`` for what a command refuses, and
    ``CommandMissing``.

    :param user: None for that of the command
    """

    def __init__(self, conf: cfg.ConfigOpts, user: str | None) -> None:
        group = conf.libvirt
        user = group.rbd_user or user
        self._client = [
            *(['--id', user] if user else []),
            *(
                ['--conf', group.images_rbd_ceph_conf]
                if group.images_rbd_ceph_conf
                else []
            ),
        ]

    # What there is

    def cluster(self) -> str:
        """The id of the cluster."""
        return self._run('ceph', 'fsid', 'read the id of the cluster').strip()

    def parent(self, image: RbdImage) -> tuple[RbdImage, str] | None:
        """What an image is a clone of: an image, and its snapshot.

        :raises CephNotFound: there is no such image
        :raises CephDenied: the user may not look into the pool
        """
        parent = self._info(image).get('parent')
        if not parent:
            return None
        return RbdImage(parent['pool'], parent['image']), parent['snapshot']

    def size(self, image: RbdImage) -> int:
        """In bytes.

        :raises CephNotFound: there is no such image
        """
        return int(self._info(image)['size'])

    def _info(self, image: RbdImage) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            self._rbd('info', image, '--format', 'json')
        )
        return answer

    def _snapshots(self, image: RbdImage) -> dict[str, bool]:
        """Those of an image, and whether each is protected."""
        found = json.loads(self._rbd('snap ls', image, '--format', 'json'))
        # Of older versions it is the word.
        return {
            each['name']: str(each['protected']).lower() == 'true'
            for each in found
        }

    # Making it

    def create_snapshot(
        self, image: RbdImage, name: str, timeout: int
    ) -> None:
        """Have an image kept as it is now.

        :param timeout: in seconds; the file systems may stand still
        """
        self._rbd('snap create', image, '--snap', name, timeout=timeout)

    def protect(self, image: RbdImage, snapshot: str) -> None:
        """Let a snapshot have clones."""
        self._rbd('snap protect', image, '--snap', snapshot)

    def clone(self, clone: Clone) -> None:
        """Make an image that shares the data of the snapshot."""
        self._rbd(
            'clone',
            clone.disk,
            *('--snap', clone.snapshot),
            *('--dest-pool', clone.image.pool, '--dest', clone.image.name),
        )

    def to_flatten(self, image: RbdImage) -> list[str]:
        """The command that gives a clone all of its data.

        It takes as long as the data is large.
        """
        return ['rbd', 'flatten', *self._client, *_named(image)]

    # Removing it. What is not there is as it is to be.

    def remove_snapshot(
        self, image: RbdImage, name: str, patience: float = 0
    ) -> None:
        """See that an image has no such snapshot.

        :param patience: the seconds after which it will not come any more, if
            it has not come yet
        """
        deadline = time.monotonic() + patience
        with contextlib.suppress(exception.CephNotFound):
            while name not in (found := self._snapshots(image)):
                if time.monotonic() >= deadline:
                    return
                time.sleep(POLL_INTERVAL)
            if found[name]:
                self._rbd('snap unprotect', image, '--snap', name)
            self._rbd('snap rm', image, '--snap', name)

    def remove(self, image: RbdImage) -> None:
        """See that there is no such image.

        One that somebody has open is waited for: whoever gave it data may
        just have been ended.
        """
        if not self._exists(image):
            return
        self.remove_snapshot(image, GLANCE_SNAPSHOT)
        deadline = time.monotonic() + IN_USE_TIMEOUT
        while True:
            try:
                self._rbd('rm', image, timeout=REMOVE_TIMEOUT)
            except exception.CephNotFound:
                return
            except exception.CephError as error:
                if error.fields['status'] != errno.EBUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_INTERVAL)
            else:
                return

    def _exists(self, image: RbdImage) -> bool:
        """Whether there may be such an image of ours.

        Whoever may not look into a pool has made none there. To remove one
        from a pool in which he may not write is denied, be it there or not.
        """
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
                # Whatever says where Ceph is says it to Nova too.
                env_variables={**os.environ, 'LC_ALL': 'C', 'PATH': PATH},
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
    """A command whose time is over goes on otherwise."""
    if process.poll() is None:
        process.kill()
        process.wait()


def _named(image: RbdImage) -> list[str]:
    return ['--pool', image.pool, '--image', image.name]


def failure(operation: str, status: int, output: str) -> exception.CephError:
    """What a command means by its end.

    :param status: an ``errno``
    :param output: what it has written to standard error
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The others are the log of a library, and come in any order.
    said = [line for line in lines if line.startswith(('rbd:', 'Error'))]
    # It ends alike where there is no configuration, or no key.
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
    """Tell what another way may be taken for from what is the end.

    Nova's own driver goes another way where it may not write in the pool of
    Glance, or finds no pool. Here everything is a reason that another way does
    not share for certain.

    :raises DirectRefused: the snapshot can be taken another way
    """
    try:
        yield
    except (exception.CephFull, exception.CephTimeout):
        raise
    except (exception.CephError, exception.CommandMissing) as error:
        raise exception.DirectRefused(
            domain=domain, reason=str(error).rstrip('.')
        ) from error
