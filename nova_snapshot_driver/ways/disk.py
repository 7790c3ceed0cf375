# SPDX-License-Identifier: Apache-2.0
"""The way of a root disk that this host or Ceph has.

Several paths lead to its content. One that libvirt or Ceph refuses is left for
another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.plan import Obstacles
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.plan import make_plan
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.result import Stopwatch
from nova_snapshot_driver.target import Target
from nova_snapshot_driver.transfer import libnbd
from nova_snapshot_driver.ways import Task
from nova_snapshot_driver.ways.attempt import Attempt
from nova_snapshot_driver.ways.data import Data
from nova_snapshot_driver.ways.direct import Direct

LOG = logging.getLogger(__name__)

ATTEMPTS: dict[Path, type[Attempt]] = {
    Path.DIRECT: Direct,
    Path.BACKUP: Data,
    Path.MIRROR: Data,
    Path.COLD: Data,
}


class DiskWay:
    """The root disk, by the first path that is not refused."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._known = obstacles(task.request.target)
        self._tried: Path | None = None

    def check(self) -> None:
        self._plan()

    def take(self) -> Snapshot:
        while True:
            try:
                return self._try()
            except exception.DirectRefused as error:
                refusal: exception.SnapshotError = error
                path = Path.DIRECT
            except exception.BackupRefused as error:
                refusal, path = error, Path.BACKUP
            self._known = dataclasses.replace(
                self._known, **{path.value: refusal.fields['reason']}
            )
            # One that was not tried would be refused for ever.
            if path is not self._tried or not self._has_another(path):
                raise refusal
            events.tell(
                LOG.warning,
                Event.REFUSED,
                refusal,
                self._task.guest.uuid,
                path=path.value,
                code=refusal.code,
            )

    def _try(self) -> Snapshot:
        watch = Stopwatch()
        plan = self._plan()
        with (
            self._task.reported(plan) as task,
            contextlib.ExitStack() as disk_operation,
        ):
            if not plan.stream:
                # A guest that is to be suspended is not yet, while the disks
                # of others are busy; nor is anything decided that may change.
                disk_operation.enter_context(
                    task.surroundings.disk_operation(task.request.cancellation)
                )
                plan = self._plan()
            task.announce(plan)
            self._tried = plan.path
            attempt = ATTEMPTS[plan.path]
            return attempt(task, plan, watch, disk_operation.close).take()

    def _plan(self) -> Plan:
        guest = self._task.guest
        plan = make_plan(
            self._task.conf,
            self._task.request.instance,
            guest.describe(),
            guest.power_state(),
            self._known,
        )
        _require_readable(guest, plan)
        return plan

    def _has_another(self, path: Path) -> bool:
        """
        :param path: the one that was refused
        """
        try:
            return self._plan().path is not path
        except exception.NotSupported:
            return False


def obstacles(target: Target | None = None) -> Obstacles:
    """What can't be done in this process.

    :param target: of the image; None for any
    """
    has_libnbd = libnbd.is_available()
    to_file = target is not None and target.image is None
    return Obstacles(
        stream=None if has_libnbd else 'libnbd is missing',
        direct='it goes to a file' if to_file else None,
    )


def _require_readable(guest: Guest, plan: Plan) -> None:
    """See that what is not read by QEMU can be read by this process.

    :raises NotSupported: it can't
    """
    if plan.path in (Path.DIRECT, Path.BACKUP):
        return
    if plan.path is Path.MIRROR and plan.disk.source == 'block':
        return
    path = plan.source.path
    if os.path.exists(path) and not os.access(path, os.R_OK):
        raise exception.NotSupported(
            domain=guest.name,
            reason=f'this user may not read its root disk {path}.',
        )
