# SPDX-License-Identifier: Apache-2.0
"""The temporary files of a snapshot, and the space for them."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator

from oslo_log import log as logging

from nova_snapshot_driver import exception

LOG = logging.getLogger(__name__)

MIB = 1 << 20

#: A guest writes on while it is copied, and images have metadata.
MARGIN = 1.05


SNAPSHOTS_DIRECTORY = '[libvirt] snapshots_directory'


class Workspace:
    """A directory that lives as long as one snapshot."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, root: str, uuid: str, option: str = SNAPSHOTS_DIRECTORY
    ) -> Iterator[Workspace]:
        """Make it, and remove it with all that it holds.

        :param root: the directory that the option names
        :raises DirectoryUnusable: it cannot be written
        """
        with _in_root(root, option) as root:
            path = tempfile.mkdtemp(prefix=f'{uuid}-', dir=root)
        try:
            # QEMU, which runs as another user, has to reach the delta in it
            # and may not list it; the files themselves are 0600.
            os.chmod(path, 0o701)
            yield cls(path)
        finally:
            _remove(path)

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)


def abandoned(root: str, uuid: str) -> list[str]:
    """What dead snapshots of a domain left behind."""
    return glob.glob(os.path.join(glob.escape(root), f'{uuid}[-.]*'))


def remove_abandoned(root: str, uuid: str) -> list[str]:
    """Remove that.

    :returns: what can't be removed
    """
    for path in abandoned(root, uuid):
        _remove(path)
    return abandoned(root, uuid)


@contextlib.contextmanager
def socket_directory(root: str, uuid: str) -> Iterator[str]:
    """A directory for a socket; removed with it.

    Its path is short, since the kernel takes no long one for a socket.

    :param root: ``[libvirt] snapshots_directory``
    :raises DirectoryUnusable: it cannot be written
    """
    with _in_root(root, SNAPSHOTS_DIRECTORY) as root:
        path = os.path.join(root, f'{uuid}.nbd')
        os.mkdir(path, mode=0o700)
    try:
        yield path
    finally:
        _remove(path)


@contextlib.contextmanager
def _in_root(root: str, option: str) -> Iterator[str]:
    """Make something in a directory, which is made if it is missing."""
    # libvirt takes no relative path, and says so when it is too late.
    root = os.path.abspath(root)
    try:
        os.makedirs(root, mode=0o711, exist_ok=True)
        yield root
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=root, reason=error.strerror, option=option
        ) from error


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):
        LOG.error('%s could not be removed and takes space', path)


def free_bytes(directory: str) -> int:
    """What an ordinary user can still write to a file system."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def require_space(
    domain: str,
    needs: Iterable[tuple[str, int]],
    option: str = SNAPSHOTS_DIRECTORY,
) -> None:
    """See that there is room, for needs that may share a file system.

    :param needs: directories, and the bytes that each is to take
    :param option: that names them
    :raises NoSpace: there is not
    """
    by_device: dict[int, tuple[str, int]] = {}
    for directory, needed in needs:
        device = os.stat(directory).st_dev
        _, others = by_device.get(device, (directory, 0))
        by_device[device] = (directory, others + needed)
    for directory, needed in by_device.values():
        required = int(needed * MARGIN)
        available = free_bytes(directory)
        if available < required:
            raise exception.NoSpace(
                domain=domain,
                directory=directory,
                available=available // MIB,
                required=-(-required // MIB),
                option=option,
            )
