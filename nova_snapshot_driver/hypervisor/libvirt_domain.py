# SPDX-License-Identifier: Apache-2.0
"""A domain as libvirt has it: identity, calls, activity and description."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor import storage_pool
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.hypervisor.libvirt_errors import translated
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject
from nova_snapshot_driver.hypervisor.libvirt_objects import heeding


class LibvirtDomain:
    """A domain of libvirt, and how it is called.

    :param handle: a ``virDomain``
    :param renew: makes another handle of it, where libvirtd was restarted
    """

    def __init__(
        self,
        handle: LibvirtObject,
        renew: Callable[[LibvirtObject], LibvirtObject] = lambda handle: (
            handle
        ),
    ) -> None:
        self._handle = handle
        self._renew = renew
        self.name: str = handle.name()
        self.uuid: str = handle.UUIDString()

    @contextlib.contextmanager
    def calling(self, operation: str) -> Iterator[LibvirtObject]:
        """Call libvirt inside.

        :param operation: what is tried, in words
        :returns: the ``virDomain`` to call
        :raises HypervisorError: libvirt refuses
        :raises DomainNotFound: the domain is not there (any more)
        :raises HypervisorSilent: libvirt does not answer in time
        """
        try:
            with translated(self.name, operation):
                yield self._handle
        except exception.HypervisorError:
            # The next call may be the one that gives the guest back.
            self._handle = self._renew(self._handle)
            raise

    def heeding(
        self, cancellation: Cancellation
    ) -> contextlib.AbstractContextManager[None]:
        """Let a cancellation end the waits for answers inside."""
        return heeding(self._handle.correspondent, cancellation)

    def settle(self) -> None:
        """See that no call of this process may still change the domain.

        :raises HypervisorSilent: a call is not answered
        """
        self._handle.correspondent.settle(Answerer.QEMU, Answerer.AGENT)

    def has_answered_within(self, answerer: Answerer, seconds: float) -> bool:
        """Wait for the answer to the call that is under way, if one is."""
        return self._handle.correspondent.has_answered_within(
            answerer, seconds
        )

    def wait_until(
        self,
        condition: Callable[[], bool],
        operation: str,
        limit: Limit,
        *,
        interval: float = wait.INTERVAL,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Wait for what QEMU or the guest has to do.

        :param operation: what is waited for, in words
        :raises HypervisorTimeout: the condition does not hold by then
        """
        wait.until(
            condition,
            limit.seconds,
            exception.HypervisorTimeout(
                domain=self.name,
                operation=operation,
                seconds=limit.seconds,
                bound=limit.bound,
            ),
            interval=interval,
            cancellation=cancellation,
        )

    def is_active(self) -> bool:
        """Whether the domain has a QEMU process."""
        with self.calling('read the state') as handle:
            return bool(handle.isActive())

    def has_stopped(self) -> bool:
        """Whether the domain has no QEMU process, or is gone with it."""
        try:
            return not self.is_active()
        except exception.DomainNotFound:
            return True

    def describe(self) -> domain.Domain:
        """The live description of a domain, or that which it would start with.

        A managed save keeps the description that the guest had. A root disk
        that is a volume of a pool is looked up.
        """
        with self.calling('read the XML') as handle:
            found = domain.parse(handle.XMLDesc())
            if not found.active and handle.hasManagedSaveImage():
                found = domain.parse(handle.managedSaveGetXMLDesc(0))
        root = found.root_disk
        if root is None or root.volume is None:
            return found
        disk = storage_pool.located(self._handle.connect(), root)
        return dataclasses.replace(found, disks=(disk, *found.disks[1:]))
