# SPDX-License-Identifier: Apache-2.0
"""A guest: its definition, its disks, and the roles that it has."""

from __future__ import annotations

import base64
import dataclasses

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor.agent import Agent
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.checkpoints import Checkpoints
from nova_snapshot_driver.hypervisor.devices import Devices
from nova_snapshot_driver.hypervisor.jobs import Jobs
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.hypervisor.libvirt_domain import LibvirtDomain
from nova_snapshot_driver.hypervisor.libvirt_errors import is_of_lock
from nova_snapshot_driver.hypervisor.libvirt_errors import translated
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject
from nova_snapshot_driver.hypervisor.power import Power

#: How long libvirt waits for a call that another one is in the way of, in
#: seconds (``VIR_JOB_WAIT_TIME``).
LOCK_TIMEOUT = Limit(30)

#: Since this version undefine can keep the state of a vTPM.
KEEP_TPM_VERSION = 8_009_000


@dataclasses.dataclass(frozen=True)
class Definition:
    """All that makes a domain persistent.

    :ivar xml: the inactive document, with the secrets in it
    """

    name: str
    uuid: str
    xml: str
    autostart: bool


def define(connection: LibvirtObject, definition: Definition) -> None:
    """Make a domain persistent, or define it anew."""
    with translated(definition.name, 'define'):
        defined = connection.defineXML(definition.xml)
        if definition.autostart:
            defined.setAutostart(True)


class Guest(LibvirtDomain):
    """A domain, as something that can be snapshotted.

    Its methods and those of its roles raise ``exception.HypervisorError`` for
    what libvirt refuses, ``exception.DomainNotFound`` for a domain that is not
    there, and ``exception.HypervisorSilent`` for what is not answered in time.

    :ivar power: how the guest is stopped and brought back
    :ivar agent: the agent inside
    :ivar jobs: what QEMU does with its disks
    :ivar devices: what can be taken from it
    :ivar checkpoints: by which it records what changes on its disks
    """

    # A role is made when it is asked for: a guest that kept its roles would be
    # in a circle with them, and its handle be freed by the garbage collector.
    # The collector may run between a failing call of libvirt, on any thread,
    # and the look at its error, which freeing a handle resets.

    @property
    def power(self) -> Power:
        return Power(self)

    @property
    def agent(self) -> Agent:
        return Agent(self)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self)

    @property
    def devices(self) -> Devices:
        return Devices(self)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self)

    def see_that_it_answers(self) -> None:
        """See that no call to the guest is under way, of any process.

        The guest may change until such a call is answered.

        :raises HypervisorSilent: one is, for longer than libvirt waits
        """
        if not self.is_active():
            return
        try:
            self.jobs.is_busy()
        except exception.HypervisorError as error:
            # Any other error is an answer.
            if is_of_lock(error.__cause__):
                raise exception.HypervisorSilent(
                    domain=self.name,
                    operation='the call of another process',
                    answerer=Answerer.QEMU.value,
                    seconds=LOCK_TIMEOUT.seconds,
                    bound=LOCK_TIMEOUT.bound,
                ) from error

    def connection_uri(self) -> str:
        """The URI of the libvirt that has the domain."""
        with self.calling('read the URI of libvirt') as handle:
            return str(handle.connect().getURI())

    def capacity(self, disk: domain.Disk) -> int:
        """The size in bytes of a disk, as the guest sees it."""
        with self.calling('read the size of the disk') as handle:
            capacity, _allocation, _physical = handle.blockInfo(disk.target)
        return int(capacity)

    def passphrase(self, disk: domain.Disk) -> str:
        """The key that an encrypted disk is unlocked with, in base64.

        :raises HypervisorError: libvirt keeps it to itself
        """
        with self.calling('read the secret of the disk') as handle:
            return secret_of(handle.connect(), disk.secret)

    def secret(self, uuid: str) -> str | None:
        """A secret of the libvirt that has the domain, in base64.

        :param uuid: of the secret
        :returns: None where there is none, or libvirt keeps it to itself
        """
        try:
            with self.calling('read a secret') as handle:
                return secret_of(handle.connect(), uuid)
        except exception.HypervisorError:
            return None

    def persistent(self) -> bool:
        with self.calling('read the persistence') as handle:
            return bool(handle.isPersistent())

    def definition(self) -> Definition:
        """All that is needed to define the domain again."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        with self.calling('read the definition') as handle:
            return Definition(
                name=self.name,
                uuid=self.uuid,
                xml=handle.XMLDesc(flags),
                autostart=bool(handle.autostart()),
            )

    def undefine(self) -> None:
        """Make the domain transient; NVRAM and the state of a vTPM stay."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        with self.calling('undefine') as handle:
            if handle.connect().getLibVersion() >= KEEP_TPM_VERSION:
                flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
            handle.undefineFlags(flags)

    def define(self, definition: Definition) -> None:
        """Make the domain persistent again, whether it still runs or not."""
        define(self._handle.connect(), definition)

    def set_autostart(self, autostart: bool) -> None:
        with self.calling('set the autostart') as handle:
            handle.setAutostart(autostart)


def secret_of(connection: LibvirtObject, uuid: str | None) -> str:
    """A secret of a libvirt, in base64."""
    found = connection.secretLookupByUUIDString(uuid)
    return base64.b64encode(found.value()).decode()
