# SPDX-License-Identifier: Apache-2.0
"""The hashes of the newest snapshots in Cinder of the servers of a host.

A file of hashes is what its snapshot could be asked for again: nothing is lost
with it. That it is there says that the snapshot is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.state import state_directory
from nova_snapshot_driver.state import workspace

#: The name of the directory, in the state directory.
NAME = 'ledger'

#: The suffix of a file with leaves, and of one for a server whose disks are
#: deleted, and which may have a volume that nobody needs any more.
LEAVES = '.leaves'
DELETED = '.deleted'


class Ledger:
    """
    :param directory: ``[snapshot] state_directory``
    """

    def __init__(self, directory: str) -> None:
        self._directory = os.path.abspath(os.path.join(directory, NAME))

    def path(self, uuid: str, disk: str, image: str) -> str:
        """The path of the leaves of a snapshot, once it is complete.

        :param uuid: of the domain
        :param image: the id of the image that maps the snapshot
        """
        return os.path.join(self._directory, _name(uuid, disk, image))

    def images(self, uuid: str, disk: str) -> list[str]:
        """The ids of the images whose leaves of a disk are here."""
        with self._files() as files:
            names = files.names()
        begin = f'{uuid}.{disk}.'
        return [
            name.removeprefix(begin).removesuffix(LEAVES)
            for name in names
            if name.startswith(begin) and name.endswith(LEAVES)
        ]

    def publish(self, uuid: str, disk: str, image: str, leaves: str) -> None:
        """Have the leaves of a complete snapshot, and no others of its disk.

        :param leaves: the path of a file with them
        :raises DirectoryUnusable: they can't be kept
        """
        name = _name(uuid, disk, image)
        with self._files() as files:
            with open(leaves, 'rb') as file:
                files.write(name, file.read(), synced=True)
            for each in files.names():
                if each.startswith(f'{uuid}.{disk}.') and each != name:
                    files.remove(each)

    def bury(self, uuid: str) -> bool:
        """Have no leaves of a domain, and note that its disks are deleted.

        :returns: whether there were any
        :raises DirectoryUnusable: they can't be removed
        """
        if not os.path.isdir(self._directory):
            return False
        with self._files() as files:
            names = [
                each
                for each in files.names()
                if each.startswith(f'{uuid}.') and each.endswith(LEAVES)
            ]
            if names:
                files.write(f'{uuid}{DELETED}', b'', synced=True)
            for each in names:
                files.remove(each)
        return bool(names)

    def buried(self) -> list[str]:
        """The UUIDs of domains whose disks are noted to be deleted.

        :raises DirectoryUnusable: nobody can tell
        """
        if not os.path.isdir(self._directory):
            return []
        with self._files() as files:
            return [
                each.removesuffix(DELETED)
                for each in files.names()
                if each.endswith(DELETED)
            ]

    def forget(self, uuid: str) -> None:
        """Have no note that the disks of a domain are deleted.

        :raises DirectoryUnusable: it stays
        """
        with self._files() as files:
            files.remove(f'{uuid}{DELETED}')

    @contextlib.contextmanager
    def _files(self) -> Iterator[Directory]:
        try:
            workspace.make_directory(self._directory, 0o700)
            with Directory.open(self._directory) as files:
                yield files
        except OSError as error:
            raise state_directory.unusable(error, self._directory) from error


def _name(uuid: str, disk: str, image: str) -> str:
    return f'{uuid}.{disk}.{image}{LEAVES}'
