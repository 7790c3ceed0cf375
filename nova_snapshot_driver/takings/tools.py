# SPDX-License-Identifier: Apache-2.0
"""The tools of an undo, for a live snapshot as for a dead one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from typing import Self

from nova_snapshot_driver.clients.access import Context
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Guest


@dataclasses.dataclass(frozen=True)
class UndoSettings:
    """The options that an undo depends on.

    :ivar state_directory: for the journal and the locks
    :ivar directories: for temporary files of snapshots
    :ivar qemu_timeout: the seconds in which QEMU answers
    :ivar quiesce_timeout: the seconds in which the guest agent answers
    :ivar thaw_timeout: the seconds in which the agent has thawed
    :ivar suspend_timeout: the seconds that a managed save may take
    :ivar device_detach_timeout: the seconds in which a device is released
    :ivar job_abort_timeout: the seconds that a job may take to end
    :ivar stall_timeout: the seconds in which a pause has to be there
    :ivar volume_timeout: the seconds that Cinder may take
    :ivar reattach_agent: whether the channel of a lost agent is attached anew
    """

    state_directory: str
    directories: tuple[str, ...]
    qemu_timeout: int
    quiesce_timeout: int
    thaw_timeout: int
    suspend_timeout: int
    device_detach_timeout: int
    job_abort_timeout: int
    stall_timeout: int
    volume_timeout: int
    reattach_agent: bool
    ceph: CephSettings

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Settings from what ``to_dict`` has made of them."""
        return cls(
            **{
                **fields,
                'directories': tuple(fields['directories']),
                'ceph': CephSettings(**fields['ceph']),
            }
        )


@dataclasses.dataclass(frozen=True)
class UndoTools:
    """The means of an undo on one domain.

    :ivar domain: its name
    :ivar found: its guest; None where the domain is gone
    :ivar claimed: a context in which the domain's owner does not begin to
        destroy it; whether it may be defined there
    :ivar ceph: the way to Ceph for the user that is given, if any is
    :ivar author: the user who may have written the journal
    :ivar configured: the directories in which snapshots have their temporary
        files, by the configuration
    :ivar named: the directories in which they are by the journal
    :ivar cloud: in which Glance and Cinder are asked; None where nobody asks
    :ivar cancellation: of what is taken; an undo heeds none
    :ivar is_rehearsal: nothing is done
    :ivar is_to_start: an undo that is rehearsed starts the guest
    :ivar is_complete: what has been found out about images, by their id
    """

    domain: str
    uuid: str
    settings: UndoSettings
    claimed: Callable[[], AbstractContextManager[bool]]
    ceph: Callable[[str | None], Ceph]
    author: Callable[[], int]
    configured: tuple[str, ...]
    named: tuple[str, ...] = ()
    found: Guest | None = None
    cloud: Context | None = None
    cancellation: Cancellation = dataclasses.field(
        default_factory=Cancellation
    )
    is_rehearsal: bool = False
    is_to_start: bool = False
    is_complete: dict[str, bool] = dataclasses.field(default_factory=dict)

    @property
    def guest(self) -> Guest:
        """The guest, for what is taken from one."""
        assert self.found is not None  # noqa: S101 (for mypy)
        return self.found

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories in which temporary files may be."""
        return tuple(sorted({*self.named, *self.configured}))

    def has_running_guest(self) -> bool:
        """Whether there is anything that could have been taken from it."""
        if self.guest.is_active():
            return True
        return bool(
            self.is_rehearsal
            and self.is_to_start
            and self.guest.power.state() is PowerState.SUSPENDED
        )
