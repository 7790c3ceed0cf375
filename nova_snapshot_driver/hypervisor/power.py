# SPDX-License-Identifier: Apache-2.0
"""The power of a guest: how it is stopped, and brought back."""

from __future__ import annotations

import contextlib

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.hypervisor.libvirt_domain import LibvirtDomain

LOG = logging.getLogger(__name__)

#: How long a managed save may take to end once it is aborted, in seconds.
ABORT_TIMEOUT = 60

# Of an active domain (virDomainState). libvirt's driver for QEMU has neither
# NOSTATE nor BLOCKED; Nova takes such a guest for one that runs.
_ACTIVE_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.ASLEEP,
}

# Where the reason tells more than the state. A libvirtd that was restarted
# finds a crashed guest paused.
_ACTIVE_REASONS = {
    (
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PAUSED_CRASHED,
    ): PowerState.CRASHED,
    (
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
    ): PowerState.SHUTTING_DOWN,
}

_PAUSED_BY_IO_ERROR = (
    libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_DOMAIN_PAUSED_IOERROR,
)


class Power:
    """The power of one guest."""

    def __init__(self, domain: LibvirtDomain) -> None:
        self._domain = domain

    def state(self) -> PowerState:
        """The activity of the guest.

        Whether there is a QEMU process is known from ``virDomainIsActive``,
        and not from the state: a crashed guest may have one or not. A state
        that no libvirt has had so far is that of a running guest.
        """
        with self._domain.calling('read the state') as handle:
            active = handle.isActive()
            state, reason = handle.state()
            saved = handle.hasManagedSaveImage()
        if active and state != libvirt.VIR_DOMAIN_SHUTOFF:
            return _ACTIVE_REASONS.get(
                (state, reason),
                _ACTIVE_STATES.get(state, PowerState.RUNNING),
            )
        return PowerState.SUSPENDED if saved else PowerState.SHUT_OFF

    def settled_state(
        self, timeout: int, cancellation: Cancellation
    ) -> PowerState:
        """The activity of the guest, once one that shuts down has stopped.

        Until then its QEMU process writes, and may answer nothing any more.

        :param timeout: the seconds after which it is waited for no more
        """
        state = self.state()
        if state is not PowerState.SHUTTING_DOWN:
            return state
        with contextlib.suppress(exception.HypervisorTimeout):
            self._domain.wait_until(
                lambda: self.state() is not PowerState.SHUTTING_DOWN,
                'shutting down',
                Limit(timeout, 'shutdown_timeout'),
                cancellation=cancellation,
            )
        return self.state()

    def managed_save(self, timeout: int, cancellation: Cancellation) -> None:
        """Save the guest's memory and stop it, as ``virsh managedsave``.

        :raises HypervisorTimeout: it took longer; the guest runs on
        """
        limit = Limit(timeout, 'suspend_timeout')
        try:
            with (
                self._domain.heeding(cancellation),
                self._domain.calling('managed save') as handle,
            ):
                handle.within(limit).managedSave(0)
        except exception.HypervisorSilent as error:
            if error.fields['operation'] != 'managedSave':
                raise
            self._abort_save()
            raise exception.HypervisorTimeout(
                domain=self._domain.name,
                operation='managed save',
                seconds=limit.seconds,
                bound=limit.bound,
            ) from error
        except (exception.HypervisorError, exception.DomainNotFound):
            raise
        except exception.SnapshotError:
            # Nobody waits for the save any longer.
            self._abort_save()
            raise

    def _abort_save(self) -> None:
        """Have a managed save end, if QEMU answers anything at all."""
        with (
            undo.under_way(),
            contextlib.suppress(exception.HypervisorSilent),
        ):
            with (
                contextlib.suppress(
                    exception.HypervisorError, exception.DomainNotFound
                ),
                self._domain.calling('abort the managed save') as handle,
            ):
                handle.abortJob()
            self._domain.has_answered_within(Answerer.QEMU, ABORT_TIMEOUT)

    def resume_from_save(self, power_state: PowerState) -> None:
        """Have the guest as it was found, after a managed save or instead.

        libvirt has saved whether the guest ran at that very moment, and starts
        it accordingly. A guest that has stopped by itself meanwhile stays so.
        """
        if self.state() is PowerState.SUSPENDED:
            with self._domain.calling('start') as handle:
                handle.createWithFlags(0)
        elif self._domain.is_active():
            self._remove_unfinished_save()
            runs = power_state is PowerState.RUNNING
            if runs and self.state() is PowerState.PAUSED:
                with self._domain.calling('resume') as handle:
                    handle.resume()

    def _remove_unfinished_save(self) -> None:
        """Remove the managed save of an active guest, if it has one.

        Such a save is unfinished, and keeps the guest from being undefined.
        """
        operation = 'remove the unfinished managed save'
        with self._domain.calling(operation) as handle:
            if handle.hasManagedSaveImage():
                handle.managedSaveRemove()

    def pause(self, timeout: int) -> None:
        """Stop the vCPUs; QEMU then writes out all that it holds back.

        :param timeout: the seconds in which QEMU must have done so
        :raises HypervisorTimeout: it has not; whoever asked owes a resume
        """
        limit = Limit(timeout, 'stall_timeout')
        try:
            with self._domain.calling('pause') as handle:
                handle.within(limit).suspend()
        except exception.HypervisorSilent as error:
            raise exception.HypervisorTimeout(
                domain=self._domain.name,
                operation='pause',
                seconds=limit.seconds,
                bound=limit.bound,
            ) from error

    def unpause(self) -> None:
        """Let the guest run on, if it is there and is paused."""
        with (
            contextlib.suppress(exception.DomainNotFound),
            self._domain.calling('resume') as handle,
        ):
            state, _reason = handle.state()
            if state == libvirt.VIR_DOMAIN_PAUSED:
                handle.resume()

    def resume_after_io_error(self) -> None:
        """Let the guest go on if QEMU has paused it for a failed write.

        QEMU repeats the write then.
        """
        with (
            contextlib.suppress(exception.DomainNotFound),
            self._domain.calling('resume') as handle,
        ):
            # A job whose end is not answered makes no difference to the state.
            if tuple(handle.as_it_is().state()) == _PAUSED_BY_IO_ERROR:
                LOG.warning(
                    'Domain %s: QEMU paused the guest on an I/O error; '
                    'resuming it',
                    self._domain.name,
                )
                handle.resume()
