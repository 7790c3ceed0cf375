# SPDX-License-Identifier: Apache-2.0
"""The snapshot of disks on this host or in Ceph.

Several methods capture their content. Where libvirt or Ceph refuses one of
them, another is tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common import paths
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot import increment_facts
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.snapshot.capture.settings import CaptureSettings
from nova_snapshot_driver.snapshot.clone_attempt import CloneAttempt
from nova_snapshot_driver.snapshot.destination.base import Adopting
from nova_snapshot_driver.snapshot.destination.base import Destination
from nova_snapshot_driver.snapshot.destination.base import Incremental
from nova_snapshot_driver.snapshot.increment_attempt import IncrementAttempt
from nova_snapshot_driver.snapshot.plan.grounds import Ground
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.increment_planner import make_increment
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.model import Obstacles
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.planner import make_plan
from nova_snapshot_driver.snapshot.read_attempt import ReadAttempt
from nova_snapshot_driver.snapshot.result import Snapshot
from nova_snapshot_driver.snapshot.result import Stopwatch
from nova_snapshot_driver.snapshot.session import Session
from nova_snapshot_driver.state import reach
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.transfer.nbd import libnbd

LOG = logging.getLogger(__name__)


class DiskSnapshot:
    """The snapshot of disks, by the first method that is not refused."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known = obstacles(session.request.destination)
        self._tried: Method | None = None
        self._has_another_base = not isinstance(
            session.request.destination, Incremental
        )

    def check(self) -> None:
        self._plan()

    def take(self) -> Snapshot:
        while True:
            try:
                return self._try()
            except exception.CloneRefused as error:
                refusal: exception.SnapshotError = error
                method = Method.DIRECT
            except exception.BackupRefused as error:
                refusal, method = error, Method.BACKUP
            except exception.ChangesUntracked as error:
                self._do_without('tracking', error)
                continue
            except exception.LeavesDamaged as error:
                self._do_without('hashes', error)
                continue
            except exception.VolumeChanged as error:
                # The destination knows, and has another base for the plan.
                if self._has_another_base:
                    raise
                self._has_another_base = True
                self._log_refusal(error)
                continue
            obstacle: dict[str, Any] = {method.value: refused(refusal)}
            self._known = dataclasses.replace(self._known, **obstacle)
            # Stop after a refusal of a method that was not tried: it would
            # repeat for ever.
            if method is not self._tried or not self._has_another(method):
                raise refusal
            events.log_event(
                LOG.warning,
                Event.REFUSED,
                refusal,
                self._session.guest.uuid,
                method=method.value,
                code=refusal.code,
            )

    def _do_without(self, what: str, error: exception.SnapshotError) -> None:
        """Plan anew, without something that an increment is made with.

        :raises SnapshotError: the error, where nothing is made with it
        """
        destination = self._session.request.destination
        if (
            not isinstance(destination, Incremental)
            or getattr(self._known, what) is not None
        ):
            raise error
        obstacle: dict[str, Any] = {what: refused(error)}
        self._known = dataclasses.replace(self._known, **obstacle)
        self._log_refusal(error)

    def _log_refusal(self, error: exception.SnapshotError) -> None:
        events.log_event(
            LOG.warning,
            Event.REFUSED,
            error,
            self._session.guest.uuid,
            code=error.code,
        )

    def _try(self) -> Snapshot:
        watch = Stopwatch()
        plan = self._plan()
        with (
            self._session.reported(plan) as session,
            contextlib.ExitStack() as disk_operation,
        ):
            if not plan.stream:
                # Take the slot first: a guest must not stand suspended while
                # the disks of others are busy, and nothing that may change is
                # decided before.
                disk_operation.enter_context(
                    session.environment.disk_operation(
                        session.request.cancellation
                    )
                )
                plan = self._plan()
            session.announce(plan)
            self._tried = plan.method
            attempting = (session, plan, watch, disk_operation.close)
            if plan.method is Method.DIRECT:
                return CloneAttempt(*attempting).take()
            if plan.increment is not None:
                return IncrementAttempt(*attempting).take()
            return ReadAttempt(*attempting).take()

    def _plan(self) -> Plan:
        settings, guest = self._session.settings, self._session.guest
        # Ask for the state first: a guest that has stopped may have another
        # description.
        power_state = self._session.power_state()
        domain = guest.describe()
        destination = self._session.request.destination
        disks = disks_of(domain, self._session.request.disks)
        plan = make_plan(
            settings.plan,
            self._session.request.instance,
            domain,
            disks,
            power_state,
            with_shut_directories(
                settings.capture, domain, disks, self._known
            ),
            destination.KEEPING
            if isinstance(destination, Incremental)
            else None,
        )
        _require_readable(guest, plan)
        require_reachable(settings.capture, domain, plan)
        if isinstance(destination, Incremental):
            return self._with_increment(plan, destination)
        return plan

    def _with_increment(self, plan: Plan, destination: Incremental) -> Plan:
        guest = self._session.guest
        [planned] = plan.disks
        base = destination.base(guest, planned.target)
        if base is not None and self._known.hashes is not None:
            base = dataclasses.replace(base, has_hashes=False)
        known = increment_facts.of(
            guest,
            planned,
            base,
            self._known.tracking,
            destination.new_bitmap(),
        )
        increment = make_increment(known, plan.method, planned.disk)
        return dataclasses.replace(plan, increment=increment)

    def _has_another(self, method: Method) -> bool:
        """Whether a method is left.

        :param method: the one that was refused
        """
        try:
            return self._plan().method is not method
        except (exception.NotSupported, exception.DirectoryShut):
            return False


def disks_of(domain: Domain, targets: Collection[str] = ()) -> list[Disk]:
    """The disks of a domain that a snapshot is to take.

    :param targets: their names in the domain, as ``vda``; none for the root
        disk alone, if there is one
    :raises NotSupported: the domain has no disk of such a name
    """
    if not targets:
        return [] if domain.root_disk is None else [domain.root_disk]
    found = [disk for disk in domain.disks if disk.target in targets]
    missing = set(targets).difference(disk.target for disk in found)
    if missing:
        raise exception.NotSupported(
            domain=domain.name,
            reason=f'it has no disk {", ".join(sorted(missing))}.',
        )
    return found


def refused(error: exception.SnapshotError) -> Ground:
    """The ground for another method: a service has refused this one."""
    return Ground(Words.REFUSED, error.fields['reason'])


def obstacles(destination: Destination | None = None) -> Obstacles:
    """The obstacles to methods that this process meets.

    :param destination: of the image; None for any
    """
    has_libnbd = libnbd.is_available()
    return Obstacles(
        stream=None if has_libnbd else 'libnbd is missing',
        direct=_no_adoption(destination),
    )


def _no_adoption(destination: Destination | None) -> Ground | None:
    """Why a destination takes no image that is made inside Ceph."""
    if isinstance(destination, Adopting | None):
        return None
    if destination.artefacts.server is not None:
        return Ground(Words.TO_VOLUME)
    return Ground(Words.TO_FILE)


def with_shut_directories(
    settings: CaptureSettings,
    domain: Domain,
    disks: Iterable[Disk],
    known: Obstacles,
) -> Obstacles:
    """The known obstacles, and those that the modes of directories add.

    An encrypted disk has no other method than a backup job: the plan may fail
    with the closed directory as its reason then.
    """
    if known.backup is not None or any(disk.encrypted for disk in disks):
        return known
    try:
        reach.require(domain.qemu_user, backup.scratch_place(settings))
    except exception.DirectoryShut as error:
        return dataclasses.replace(
            known,
            backup=Ground(
                Words.DIRECTORY_SHUT,
                f'{error.fields["user"]} may not enter '
                f'{error.fields["directory"]}',
            ),
        )
    return known


def require_reachable(
    settings: CaptureSettings, domain: Domain, plan: Plan
) -> None:
    """Check that QEMU can access the files that it is to read or write.

    :raises DirectoryShut: it can't
    """
    snapshots = Place(settings.snapshots_directory)
    places: dict[Method, tuple[Place, ...]] = {
        Method.BACKUP: (snapshots, backup.scratch_place(settings)),
        Method.MIRROR: (snapshots,),
    }
    for place in places.get(plan.method, ()):
        reach.require(domain.qemu_user, place)


def _require_readable(guest: Guest, plan: Plan) -> None:
    """Check that this process can read what QEMU does not read for it.

    :raises NotSupported: it can't
    """
    if plan.method in (Method.DIRECT, Method.BACKUP):
        return
    for planned in plan.disks:
        if plan.method is Method.MIRROR and planned.disk.source == 'block':
            continue
        path = planned.source.path
        if paths.is_shut(path):
            raise exception.NotSupported(
                domain=guest.name,
                reason=f'this user may not read its disk {path}.',
            )
