# SPDX-License-Identifier: Apache-2.0
"""What the driver finds where it runs, beside the host itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nova_snapshot_driver.cancellation import Cancellation


class Surroundings:
    """Those of a command: nobody else is there. A service has its own."""

    @contextlib.contextmanager
    def disk_operation(self, cancellation: Cancellation) -> Iterator[None]:
        """One of the operations on disks that the host bears at a time.

        :raises HostBusy: the others leave no room for it
        """
        yield

    def entrust(self, directory: str, uid: int) -> None:
        """Let QEMU, beside ourselves, make files in a directory of ours.

        :param uid: of the user that QEMU is
        :raises PermissionError: we may not
        """
        os.chown(directory, uid, -1)

    def claim(self, path: str) -> None:
        """Make a file readable for us that QEMU has written.

        Whoever QEMU runs as: libvirt gives it what it writes to.
        """

    def planned(self, path: str) -> None:
        """Hear by which path a snapshot is taken, or is tried."""

    def healed(self) -> None:
        """Hear that nothing is left any more of a snapshot that died."""
