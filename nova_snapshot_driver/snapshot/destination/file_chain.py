# SPDX-License-Identifier: Apache-2.0
"""A chain of files on this host, which gets one more snapshot."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.snapshot.destination.base import Artefacts
from nova_snapshot_driver.snapshot.destination.base import Incremental
from nova_snapshot_driver.snapshot.destination.base import IncrementProof
from nova_snapshot_driver.snapshot.destination.base import Proof
from nova_snapshot_driver.snapshot.destination.base import Prove
from nova_snapshot_driver.snapshot.plan.increment import Base
from nova_snapshot_driver.snapshot.plan.increment import Increment
from nova_snapshot_driver.snapshot.plan.increment import Keeping
from nova_snapshot_driver.snapshot.plan.model import AT_REST
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.state.chain import FORMAT
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import RECORD
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.transfer.jobs.job import Increment as IncrementJob
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job import Written
from nova_snapshot_driver.transfer.jobs.job_fields import Base as BaseFiles
from nova_snapshot_driver.transfer.nbd import libnbd

#: The option that names the directory.
INTO = '--into'


class FileChain(Incremental):
    """A chain that gets a snapshot; it appears when it is complete.

    :param chain: open, and locked for as long as this is used
    :param name: of the snapshot; None for one after the time
    :param leaves: the path of the leaves of the newest snapshot; None where
        there are none that are right
    """

    KEEPING = Keeping('qcow2', 'as all increments')
    JOB = IncrementJob

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
        return os.path.join(self._chain.path, f'{self._name}{RECORD}')

    @property
    def place(self) -> Place:
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
        """
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

    def new_bitmap(self) -> str:
        return naming.new_bitmap(naming.CHAIN_BITMAP)

    @property
    def bitmaps_before(self) -> tuple[Bitmap, ...]:
        newest = self._newest
        if newest is None:
            return ()
        names = (newest.bitmap, *newest.stale_bitmaps)
        return tuple(
            Bitmap(newest.disk, name) for name in names if name is not None
        )

    def job(self, view: View, plan: Plan, directory: str) -> IncrementJob:
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

    def _proving(self, plan: Plan, tree: str, directory: str) -> Verify:
        """The job that compares the image with what was read from the disk.

        :param tree: the hash of the leaves
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

    def complete(
        self,
        guest: Guest,
        plan: Plan,
        written: Written,
        _properties: dict[str, Any],
        prove: Prove,
        directory: str,
    ) -> Proof:
        """
        :raises IncrementUnproven: the image has something else
        """
        verdict = prove(self._proving(plan, written.tree, directory))
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
                parent=record.parent,
                way=record.way.value,
                reason=str(_increment_of(plan).reason),
                public_reason=_increment_of(plan).reason.public,
                changed=record.changed,
                written=record.written,
                tree=record.tree,
                file=self._chain.image_path(record.name),
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
