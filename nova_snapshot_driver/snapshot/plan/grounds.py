# SPDX-License-Identifier: Apache-2.0
"""The grounds of decisions, for owners of servers and for operators.

The owner of a server reads the properties of its image and the fault of the
server. Nothing of the host may show there: no path, no address, no pool, and
not a word of libvirt, Ceph, Glance or the guest agent. The words for owners
are therefore a closed list, ``Words``. The host's own words are a detail, for
the log and for the output of the command.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from nova_snapshot_driver.hypervisor.domain import PowerState


class Words(enum.Enum):
    """All texts that the owner of a server may read."""

    # Of a method, and of a pause
    RUNNING = 'the guest is running'
    PAUSED = 'the guest is paused'
    ASLEEP = 'the guest is asleep'
    CRASHED = 'the guest is crashed'
    SHUTTING_DOWN = 'the guest is shutting down'
    SHUT_OFF = 'the guest is shut off'
    SUSPENDED = 'the guest is suspended'

    # Of a method
    FORCED = 'forced by [snapshot] method'
    NO_LIVE_SNAPSHOT = '[workarounds] disable_libvirt_livesnapshot'
    ENCRYPTED_STORAGE = '[ephemeral_storage_encryption] enabled'
    IN_CEPH = 'the root disk is in Ceph'
    VOLUME = 'the root disk is a volume'
    NO_BACKUP_JOB = 'there is no backup job'
    NOT_INSIDE_CEPH = 'no image inside Ceph'
    DIRECTORY_SHUT = 'QEMU may not enter a directory'
    REFUSED = 'it is refused'
    TO_FILE = 'it goes to a file'
    TO_VOLUME = 'it goes to a volume'
    SEVERAL_DISKS = 'several disks are captured'
    NOT_RAW = 'it would be raw, and another format is wanted'

    # Of the way of an increment
    FIRST = 'it is the first one'
    SHRUNK = 'the disk has shrunk'
    FAR_UP = 'no more images can be opened in time'
    NO_HASHES = 'the hashes of the last one are of no use'
    TRACKED = 'QEMU has recorded the changes'
    NO_BITMAP = 'the last one has begun no bitmap'
    BITMAP_LOST = 'the bitmap of the last one is lost'
    OTHER_METHOD = 'only a backup job shows recorded changes'
    OTHER_FORMAT = 'no changes are recorded in its format'
    NOT_RECORDED = 'QEMU does not record the changes'
    VOLUME_CHANGED = 'the volume is not as the last one any more'

    # Of the freeze
    BY_AGENT = 'by the guest agent'
    NOT_WANTED = 'not wanted'
    AT_REST = 'the guest is shut off, its disk is at rest'
    AGENT_PAUSED = 'the guest is paused, its agent cannot answer'
    AGENT_ASLEEP = 'the guest is asleep, its agent cannot answer'
    AGENT_CRASHED = 'the guest is crashed, its agent cannot answer'
    AGENT_SHUTTING_DOWN = 'the guest is shutting down, its agent cannot answer'
    AGENT_SUSPENDED = 'the guest is suspended, its agent cannot answer'
    NO_AGENT_WANTED = 'the image has no property hw_qemu_guest_agent'
    NO_CHANNEL = 'the domain has no channel for a guest agent'
    NO_AGENT = 'no agent is running in the guest'
    NOTHING_TO_FREEZE = 'the guest agent has no file system to freeze'
    AGENT_REFUSES = 'the guest agent refuses'
    AGENT_FAILS = 'the guest agent fails, or does not answer'
    LEFT_TO_NOVA = (
        "Nova's own driver takes the snapshot, and may freeze nothing"
    )
    NOT_QUIESCED = 'the guest could not be quiesced'

    # Of a pause
    BY_OPTION = '[snapshot] pause'
    ONE_VOLUME = 'the snapshot of one volume is one instant'
    SEVERAL_VOLUMES = 'it has several volumes'
    QUIESCED = 'it is quiesced'


@dataclasses.dataclass(frozen=True)
class Ground:
    """A ground for a decision. As a ``str`` it is for the operator.

    :ivar words: for everybody
    :ivar detail: the host's own words
    :ivar cause: the ground of this ground
    :ivar beside: the ground why something else was not done
    """

    words: Words
    detail: str = ''
    cause: Ground | None = None
    beside: Ground | None = None

    @property
    def public(self) -> str:
        """The part that the owner of the server may read."""
        return self._told(self.words.value, lambda ground: ground.public)

    def __str__(self) -> str:
        words = self.words.value
        return self._told(
            f'{words}: {self.detail}' if self.detail else words, str
        )

    def _told(self, text: str, tell: Callable[[Ground], str]) -> str:
        if self.cause is not None:
            text = f'{text}: {tell(self.cause)}'
        if self.beside is not None:
            text = f'{text}; {tell(self.beside)}'
        return text


def of_state(power_state: PowerState) -> Ground:
    """The ground of a guest's power state."""
    return Ground(Words(f'the guest is {power_state.value}'))


def of_silent_agent(power_state: PowerState) -> Ground:
    """The ground of a power state in which the agent can't answer."""
    return Ground(
        Words(f'the guest is {power_state.value}, its agent cannot answer')
    )


def public(text: object) -> str:
    """A text of the list; any other becomes the bare fact of a failure."""
    try:
        return str(Words(text).value)
    except ValueError:
        return Words.NOT_QUIESCED.value
