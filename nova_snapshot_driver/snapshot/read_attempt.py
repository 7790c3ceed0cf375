# SPDX-License-Identifier: Apache-2.0
"""Images made of the data of disks, which this host reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from nova_snapshot_driver.common.view import Views
from nova_snapshot_driver.snapshot.attempt import Attempt
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.snapshot.capture import cold
from nova_snapshot_driver.snapshot.capture import mirror
from nova_snapshot_driver.snapshot.capture.base import CaptureTools
from nova_snapshot_driver.snapshot.delivery import Delivery
from nova_snapshot_driver.snapshot.delivery import ExtractDelivery
from nova_snapshot_driver.snapshot.delivery import SaveDelivery
from nova_snapshot_driver.snapshot.delivery import StreamDelivery
from nova_snapshot_driver.snapshot.destination.base import Staged
from nova_snapshot_driver.snapshot.destination.base import Streaming
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.takings.agent_channel import AgentChannel
from nova_snapshot_driver.takings.device import DetachedDevice
from nova_snapshot_driver.takings.freeze import Freeze
from nova_snapshot_driver.takings.jobs import BackupJob
from nova_snapshot_driver.takings.jobs import BlockJob
from nova_snapshot_driver.takings.managed_save import ManagedSave
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.undefine import Undefine


class ReadAttempt(Attempt[Views]):
    """An attempt that streams or converts the data of the disks."""

    def _captured(self, tools: CaptureTools) -> AbstractContextManager[Views]:
        match self._plan.method:
            case Method.BACKUP:
                return backup.captured(self._guest, self._plan, tools)
            case Method.MIRROR:
                return mirror.captured(self._guest, self._plan, tools)
            case _:
                return cold.captured(self._guest, self._plan, tools)

    def _delivery(self, workspace: Workspace) -> Delivery[Views]:
        delivering = (self._session, self._plan, self._quiesce, workspace)
        if self._streaming is not None:
            return StreamDelivery(*delivering, self._streaming)
        if self._plan.stream:
            return SaveDelivery(*delivering, self._staged)
        return ExtractDelivery(*delivering, self._staged)

    def _place_of_images(self, root: str) -> Place | None:
        return None if self._streaming else self._staged.place(root)

    @property
    def _streaming(self) -> Streaming | None:
        """The destination, where the images are to be streamed to it."""
        destination = self._request.destination
        if self._plan.stream and isinstance(destination, Streaming):
            return destination
        return None

    @property
    def _staged(self) -> Staged:
        """The destination, where the images first become files."""
        destination = self._request.destination
        assert isinstance(destination, Staged)  # noqa: S101 (for mypy)
        return destination

    def _entry(self) -> Entry:
        return self._rest().with_(*self._takings())

    def _takings(self) -> Iterator[Taking]:
        if self._plan.freeze:
            yield Freeze()
        domain = self._guest.describe()
        if self._plan.method is Method.BACKUP:
            # The domain keeps its definition.
            yield BackupJob()
            if domain.agent_device is not None:
                yield AgentChannel(domain.agent_device)
            return
        if self._plan.method is Method.MIRROR:
            yield BlockJob()
        if self._guest.persistent():
            yield Undefine(self._guest.definition())
        if self._plan.method is Method.COLD and self._guest.is_active():
            yield ManagedSave(self._plan.power_state)
            yield from map(DetachedDevice, domain.host_devices)
