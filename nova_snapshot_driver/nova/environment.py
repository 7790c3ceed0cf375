# SPDX-License-Identifier: Apache-2.0
"""The environment that nova-compute offers to the driver."""

from __future__ import annotations

import binascii
import contextlib
import errno
import os
from collections.abc import Collection
from collections.abc import Iterator

import nova.conf
from castellan import key_manager
from nova.compute import utils as compute_utils
from nova.context import RequestContext

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind
from nova_snapshot_driver.nova import privsep
from nova_snapshot_driver.snapshot.capture.environment import Environment
from nova_snapshot_driver.snapshot.capture.environment import refusals
from nova_snapshot_driver.snapshot.metrics import Metrics
from nova_snapshot_driver.snapshot.metrics import Tally

CONF = nova.conf.CONF

#: How often a busy slot is asked for again, in seconds.
POLL_INTERVAL = 0.5


class ComputeEnvironment(Environment):
    """The environment of a driver in nova-compute.

    :param metrics: of all its snapshots
    :param tally: of the one that is being taken, if there is one
    :param context: of the request for that one
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        tally: Tally | None = None,
        context: RequestContext | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._tally = tally or Tally()
        self._context = context

    @contextlib.contextmanager
    def disk_operation(self, cancellation: Cancellation) -> Iterator[None]:
        """Hold one of the slots of ``[compute] max_concurrent_disk_ops``.

        Unlike upstream's, the slot is not held during the upload, which is a
        matter of the network.
        """
        slots = compute_utils.disk_ops_semaphore
        if isinstance(slots, compute_utils.UnlimitedSemaphore):
            yield
            return
        timeout = CONF.snapshot.disk_slot_timeout
        wait.until(
            lambda: slots.acquire(timeout=POLL_INTERVAL),
            timeout,
            exception.HostBusy(seconds=timeout),
            interval=0,
            cancellation=cancellation,
        )
        try:
            yield
        finally:
            slots.release()

    def entrust(self, directory: str, uid: int) -> None:
        if os.geteuid() != 0:
            # The group keeps our access to the directory.
            ownership.set_mode(directory, 0o770)
        with _found_by_root():
            privsep.entrust(directory, os.geteuid(), uid, os.getegid())

    def claim(self, path: str, kind: Kind, owners: Collection[int]) -> Inode:
        us = os.geteuid()
        with refusals(path):
            status = ownership.inspect(path, kind, owners, us)
            inode = Inode.of(status)
            if status.st_uid != us:
                with _found_by_root():
                    privsep.claim(
                        *(path, kind.value, list(owners), us),
                        *(inode.device, inode.number),
                    )
        return inode

    def volume_passphrase(self, domain: str, key: str | None) -> bytes:
        """
        Source: ``nova.virt.libvirt.driver.LibvirtDriver._attach_encryptor``
        """
        try:
            found = key_manager.API(CONF).get(self._context, key)
        # A key manager raises what its backend does.
        except Exception as error:
            raise exception.VolumeRefused(
                domain=domain,
                reason='the key manager does not give the key of the volume: '
                f'{reason.of(error)}',
            ) from error
        return binascii.hexlify(found.get_encoded())

    def planned(self, method: str) -> None:
        self._tally.method = method

    def healed(self) -> None:
        self._metrics.healed()


@contextlib.contextmanager
def _found_by_root() -> Iterator[None]:
    """Explain a privsep daemon that lacks this package.

    :raises PermissionError: it lacks the package
    """
    try:
        yield
    except ImportError as error:
        raise PermissionError(
            errno.EPERM,
            "nova's privsep daemon does not find this driver in the Python "
            f'that it runs on ({error}): install it there',
        ) from error
