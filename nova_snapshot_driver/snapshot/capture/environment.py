# SPDX-License-Identifier: Apache-2.0
"""The environment that the driver runs in, beside the host itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind


class Environment:
    """The environment of a command, which runs alone.

    A service has its own subclass.
    """

    @contextlib.contextmanager
    def disk_operation(self, cancellation: Cancellation) -> Iterator[None]:
        """Take one of the places that the host has for operations on disks.

        :raises HostBusy: other operations hold all places
        """
        yield

    def entrust(self, directory: str, uid: int) -> None:
        """Let QEMU, beside ourselves, make files in a directory of ours.

        :param directory: an empty one
        :param uid: of the user that QEMU runs as
        :raises PermissionError: we may not
        """
        ownership.entrust(directory, os.geteuid(), uid, -1)

    def claim(self, path: str, kind: Kind, owners: Collection[int]) -> Inode:
        """Make a file readable for us that QEMU has written.

        libvirt gives a file that QEMU writes to the user that QEMU runs as.

        :param owners: the users of whom one has to own the file
        :raises ClaimRefused: something else is there
        """
        with refusals(path):
            return Inode.of(
                ownership.inspect(path, kind, owners, os.geteuid())
            )

    def volume_passphrase(self, domain: str, key: str | None) -> bytes:
        """The passphrase of a volume that Cinder has encrypted.

        :param domain: its name
        :param key: its id in the key manager
        :raises VolumeRefused: there is none to be had here
        """
        raise exception.VolumeRefused(
            domain=domain,
            reason='the volume is encrypted, and there is no key manager here',
        )

    def planned(self, method: str) -> None:
        """Hear by which method a snapshot is taken, or is tried."""

    def healed(self) -> None:
        """Hear that nothing is left any more of a snapshot that died."""


@contextlib.contextmanager
def refusals(path: str) -> Iterator[None]:
    """Report in words that a file is not the expected one.

    :raises ClaimRefused: another file is there
    """
    try:
        yield
    except OSError as error:
        raise exception.ClaimRefused(
            path=path, reason=error.strerror
        ) from error
