# SPDX-License-Identifier: Apache-2.0
"""Ways to the image of an instance, one for each place of its root disk."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Protocol
from typing import Self

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import events
from nova_snapshot_driver import status
from nova_snapshot_driver import watch
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.journal import Entry
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.plan import AnyPlan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.request import Request
from nova_snapshot_driver.result import Snapshot
from nova_snapshot_driver.status import Status
from nova_snapshot_driver.surroundings import Surroundings

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Task:
    """One snapshot that is wanted of one guest, and what it is taken with.

    :ivar unfinished: what has to go if there will be no image, for the journal
    """

    conf: cfg.ConfigOpts
    journal: Journal
    surroundings: Surroundings
    guest: Guest
    request: Request
    unfinished: Entry

    def quiesce(self, plan: AnyPlan) -> Quiesce:
        return Quiesce(
            self.guest,
            plan,
            self.conf.snapshot.quiesce_timeout,
            self.conf.snapshot.guest_timeout,
        )

    @contextlib.contextmanager
    def reported(self, plan: AnyPlan) -> Iterator[Self]:
        """The task, whose progress the other processes of the host see too."""
        with status.reported(
            self.conf.snapshot.state_directory,
            Status(
                domain=self.guest.name,
                uuid=self.guest.uuid,
                image=self.request.target.image,
                file=self.request.target.file,
                path=plan.path.value,
            ),
            self.request.progress,
        ) as progress:
            request = dataclasses.replace(self.request, progress=progress)
            yield dataclasses.replace(self, request=request)

    @contextlib.contextmanager
    def taking(self, entry: Entry, rest: Entry) -> Iterator[None]:
        """Something may be taken from the guest, and is given back inside.

        :param entry: what may be, for the journal
        :param rest: what stays there afterwards
        """
        with (
            watch.kept(self.conf, self.guest),
            self.journal.kept(entry, rest),
        ):
            yield

    def announce(self, plan: AnyPlan) -> None:
        self.surroundings.planned(plan.path.value)
        events.tell(
            LOG.info,
            Event.PLANNED,
            f'Snapshot of domain {self.guest.name}: {plan}',
            self.guest.uuid,
            path=plan.path.value,
            quiesce=plan.freeze,
        )


class Way(Protocol):
    """One way, of one task."""

    def check(self) -> None:
        """See that it leads there, before anything is touched.

        :raises NotSupported: it does not
        """

    def take(self) -> Snapshot:
        """Have the image complete, and the guest as it was found."""
