# SPDX-License-Identifier: Apache-2.0
"""A chain of files on this host, which gets one more snapshot."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Destination
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.plan.increment import Base
from nova_snapshot_driver.snapshot.plan.increment import Increment
from nova_snapshot_driver.snapshot.plan.model import AT_REST
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.state.chain import FORMAT
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import RECORD
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.transfer.jobs.job import Increment as IncrementJob
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written
from nova_snapshot_driver.transfer.jobs.job_fields import Base as BaseFiles
from nova_snapshot_driver.transfer.nbd import libnbd

#: The option that names the directory.
INTO = '--into'


class FileChain(Destination):
    """A chain that gets a snapshot; it appears when it is complete.

    :param chain: open, and locked for as long as this is used
    :param name: of the snapshot; None for one after the time
    :param leaves: the path of the leaves of the newest snapshot; None where
        there are none that are right
    """

    def __init__(
        self, chain: Chain, name: str | None, leaves: str | None
    ) -> None:
        self._chain = chain
        self._newest = chain.newest()
        self._leaves = leaves
        self._instant = datetime.datetime.now(datetime.UTC)
        self._name = chain.unused_name(self._instant) if name is None else name

    @property
    def artefacts(self) -> Artefacts:
        return Artefacts(files=(self._chain.image_path(self._name),))

    @property
    def record(self) -> str:
        """The path of the record, which is there once all is complete."""
        return os.path.join(self._chain.path, f'{self._name}{RECORD}')

    @property
    def place(self) -> Place:
        """Where the image takes room."""
        return Place(self._chain.path, INTO)

    def check(self) -> None:
        self._chain.see_is_unused(self._name)
        if not libnbd.is_available():
            raise exception.LibnbdMissing(
                reason='increments are read by nothing else'
            )

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # The next process that locks the chain removes them, too.
            with contextlib.suppress(exception.ChainUnusable):
                self._chain.discard_drafts(self._name)
            raise

    def base(self, guest: Guest, target: str) -> Base | None:
        """The snapshot that the next one may build on.

        :raises ChainForeign: the chain is that of another disk
        """
        self._chain.see_is_of(guest.uuid, target)
        newest = self._newest
        if newest is None:
            return None
        return Base(
            newest.name,
            newest.size,
            None
            if newest.bitmap is None
            else Bitmap(newest.disk, newest.bitmap),
            self._leaves is not None,
            self._chain.is_full_due(),
        )

    @property
    def bitmaps_before(self) -> tuple[Bitmap, ...]:
        """The bitmaps that are of no use once the snapshot is complete."""
        newest = self._newest
        if newest is None:
            return ()
        names = (newest.bitmap, *newest.stale_bitmaps)
        return tuple(
            Bitmap(newest.disk, name) for name in names if name is not None
        )

    def job(self, view: View, plan: Plan, directory: str) -> IncrementJob:
        """The job that writes the drafts of the snapshot.

        :param directory: of the snapshot's own, where sockets may lie
        """
        self._instant = datetime.datetime.now(datetime.UTC)
        parent = self._parent(plan)
        return IncrementJob(
            view=view,
            base=self._files_of(parent),
            backing=None if parent is None else parent.image,
            path=self._chain.image_draft(self._name),
            leaves=self._chain.leaves_draft(self._name),
            directory=directory,
        )

    def _files_of(self, parent: ChainRecord | None) -> BaseFiles | None:
        if parent is None or self._leaves is None:
            return None
        return BaseFiles(parent.size, self._leaves, parent.tree)

    def proving(self, plan: Plan, tree: str, directory: str) -> Verify:
        """The job that compares the image with what was read from the disk.

        :param tree: the hash of the leaves
        :param directory: of the snapshot's own, where sockets may lie
        """
        parent = self._parent(plan)
        backing = None if parent is None else self._chain.layer(parent)
        return Verify(
            view=Layer(
                self._chain.image_draft(self._name),
                FORMAT,
                backing=backing,
                is_last=backing is None,
            ),
            leaves=self._chain.leaves_draft(self._name),
            tree=tree,
            size=_size_of(plan),
            base_leaves=None if parent is None else self._leaves,
            directory=directory,
        )

    def _parent(self, plan: Plan) -> ChainRecord | None:
        """The snapshot whose image is beneath that of a plan."""
        return None if _increment_of(plan).base is None else self._newest

    def publish(
        self, guest: Guest, plan: Plan, written: Written, verdict: Verdict
    ) -> Proof:
        """Have the snapshot in the chain, of the drafts that are written.

        :raises IncrementUnproven: the image has something else
        """
        if verdict.damaged:
            raise exception.IncrementUnproven(
                path=self._chain.image_path(self._name),
                count=verdict.damaged,
                offset=verdict.offsets[0] if verdict.offsets else 'unknown',
            )
        record = self._record_of(guest, plan, written)
        self._chain.publish(record)
        return Proof(
            written.size,
            None,
            increment=IncrementProof(
                name=record.name,
                file=self._chain.image_path(record.name),
                parent=record.parent,
                way=record.way.value,
                reason=str(_increment_of(plan).reason),
                changed=record.changed,
                written=record.written,
            ),
        )

    def _record_of(
        self, guest: Guest, plan: Plan, written: Written
    ) -> ChainRecord:
        increment = _increment_of(plan)
        [planned] = plan.disks
        base, new = increment.base, increment.tracking.new
        is_recorded = increment.way is Way.BITMAP
        # QEMU alone can remove a bitmap.
        stale = self.bitmaps_before if plan.power_state in AT_REST else ()
        return ChainRecord(
            name=self._name,
            number=self._chain.next_number(),
            created=f'{self._instant:%Y-%m-%dT%H:%M:%SZ}',
            domain=guest.name,
            uuid=guest.uuid,
            disk=planned.target,
            size=_size_of(plan),
            parent=None if base is None else base.name,
            way=increment.way,
            reason=None if is_recorded else str(increment.reason),
            bitmap=None if new is None else new.name,
            stale_bitmaps=tuple(each.name for each in stale),
            changed=written.changed,
            written=written.size,
            tree=written.tree,
        )


def _increment_of(plan: Plan) -> Increment:
    assert plan.increment is not None  # noqa: S101 (for mypy)
    return plan.increment


def _size_of(plan: Plan) -> int:
    """The size of the disk, in bytes."""
    [planned] = plan.disks
    assert planned.size is not None  # noqa: S101 (for mypy)
    return planned.size
