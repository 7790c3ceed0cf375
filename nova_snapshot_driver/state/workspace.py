# SPDX-License-Identifier: Apache-2.0
"""The temporary files of a snapshot, and the space for them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.takings import temporary_files

MIB = 1 << 20

#: A guest writes on while it is copied, and images have metadata.
MARGIN = 1.05


SNAPSHOTS_DIRECTORY = '[libvirt] snapshots_directory'

#: Of what QEMU, which runs as another user, has to get through and may not
#: list. The files in it are 0600.
PASSABLE = 0o711


@dataclasses.dataclass(frozen=True)
class Place:
    """A directory, and the option that names it."""

    directory: str
    option: str = SNAPSHOTS_DIRECTORY


@dataclasses.dataclass(frozen=True)
class Need:
    """Room that something takes in a place.

    :ivar size: in bytes, at most
    """

    place: Place
    size: int


class Workspace:
    """A directory that lives as long as one snapshot."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, root: str, uuid: str, option: str = SNAPSHOTS_DIRECTORY
    ) -> Iterator[Workspace]:
        """Make a directory, and remove it with all that it holds.

        :param root: the directory that the option names
        :raises DirectoryUnusable: it cannot be written
        """
        with _in_root(root, option) as root:
            # QEMU has to reach the delta in it.
            path = _made(root, f'{uuid}-', PASSABLE)
        try:
            yield cls(path)
        finally:
            temporary_files.remove(path)

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)


@contextlib.contextmanager
def socket_directory(root: str, uuid: str) -> Iterator[str]:
    """A directory for a socket, named ``SOCKET``; removed with it.

    Its path is short, since the kernel takes no long one for a socket. It is
    another one each time: QEMU, which gets it, may leave it as it likes.

    :param root: ``[libvirt] snapshots_directory``
    :raises DirectoryUnusable: it cannot be written
    """
    with _in_root(root, SNAPSHOTS_DIRECTORY) as root:
        path = _made(root, f'{temporary_files.OWN}{uuid}.', 0o700)
    try:
        yield path
    finally:
        temporary_files.remove_socket_directory(path)


def _made(root: str, prefix: str, mode: int) -> str:
    """The path of a new directory, of which nobody knows the name before.

    :param mode: that it has, whatever the umask is
    """
    path = tempfile.mkdtemp(prefix=prefix, dir=root)
    try:
        ownership.set_mode(path, mode)
    except OSError:
        os.rmdir(path)
        raise
    return path


@contextlib.contextmanager
def _in_root(root: str, option: str) -> Iterator[str]:
    """Make something in a directory, which is made if it is missing."""
    try:
        # libvirt takes no relative path, and says so when it is too late.
        root = os.path.abspath(root)
        make_directory(root, PASSABLE)
        yield root
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=root, reason=error.strerror, option=option
        ) from error


def make_directory(path: str, mode: int) -> None:
    """Make a directory and what is missing above it, whatever the umask is.

    What is there already belongs to somebody who has chosen its mode.

    :param mode: of the directory; what is made above it can be passed by all
    """
    path = os.path.abspath(path)
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for made in reversed(missing):
        try:
            os.mkdir(made, 0o700)
        except FileExistsError:
            # Another snapshot has just made it, unless it is a file.
            if not os.path.isdir(made):
                raise
        else:
            ownership.set_mode(made, mode if made is missing[0] else PASSABLE)


def free_bytes(directory: str) -> int:
    """The bytes that an ordinary user can still write to a file system."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def require_space(domain: str, needs: Iterable[Need]) -> None:
    """See that there is room, for needs that may share a file system.

    :raises NoSpace: there is not; it names the directory of the largest need
    """
    by_device: dict[int, list[Need]] = {}
    for need in needs:
        device = os.stat(need.place.directory).st_dev
        by_device.setdefault(device, []).append(need)
    for sharing in by_device.values():
        largest = max(sharing, key=lambda need: need.size).place
        required = int(sum(need.size for need in sharing) * MARGIN)
        available = free_bytes(largest.directory)
        if available < required:
            raise exception.NoSpace(
                domain=domain,
                directory=largest.directory,
                available=available // MIB,
                required=-(-required // MIB),
                option=largest.option,
            )
