# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a guest, by which QEMU records what changes on a disk.

A bitmap lives on without libvirt's record of its checkpoint: QEMU keeps it in
the qcow2 image, through a shutdown, a managed save and a migration. The record
itself keeps a domain from being undefined. So libvirt has it only for as long
as a call needs it, and is told of it anew for the next one.
"""

from __future__ import annotations

import contextlib

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import checkpoint_xml
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.checkpoint_xml import Bitmap
from nova_snapshot_driver.hypervisor.libvirt_domain import LibvirtDomain
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject

#: How the names of all bitmaps begin that are of this driver.
PREFIX = 'nova-snapshot-'

#: The text of the error where QEMU has no bitmap to be removed. It has no code
#: of its own. Source: ``qemuBlockBitmapChainIsValid`` and
#: ``qemuCheckpointDiscardDiskBitmaps`` in libvirt.
_MISSING = 'not found in backing chain'


class Checkpoints:
    """The checkpoints of one guest that are of this driver."""

    def __init__(self, domain: LibvirtDomain) -> None:
        self._domain = domain

    def define(self, bitmap: Bitmap) -> None:
        """Have libvirt know a bitmap, if QEMU has it.

        Whoever calls this owes a ``forget()``.

        :raises BitmapLost: QEMU has none, or none that is right
        :raises HypervisorError: there can be none on that disk
        """
        with self._domain.calling('look for the bitmap') as handle:
            self._validated(handle, bitmap)

    def dirty_bytes(self, bitmap: Bitmap) -> int:
        """The bytes that have changed since a bitmap was begun.

        Whoever calls this owes a ``forget()``.

        :raises BitmapLost: QEMU has none, or none that is right
        :raises HypervisorError: there can be none on that disk
        """
        with self._domain.calling('measure the bitmap') as handle:
            checkpoint = self._validated(handle, bitmap)
            xml = checkpoint.getXMLDesc(
                libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE
                | libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN
            )
        return checkpoint_xml.dirty_bytes(xml, bitmap)

    def remove(self, bitmap: Bitmap) -> None:
        """Have QEMU remove a bitmap of a guest that is active, if it has it.

        :raises HypervisorError: it stays
        """
        with self._domain.calling('remove the bitmap') as handle:
            checkpoint = handle.checkpointCreateXML(
                checkpoint_xml.of_known(bitmap),
                libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE,
            )
            try:
                checkpoint.delete(0)
            except libvirt.libvirtError as error:
                with contextlib.suppress(libvirt.libvirtError):
                    _forget(checkpoint)
                if _MISSING not in str(error):
                    raise

    def names(self) -> list[str]:
        """The checkpoints that libvirt has a record of."""
        with self._domain.calling('list the checkpoints') as handle:
            return [name for name, _checkpoint in _ours(handle)]

    def forget(self) -> None:
        """Have libvirt know no checkpoint; the bitmaps stay."""
        with self._domain.calling('forget the checkpoints') as handle:
            for _name, checkpoint in _ours(handle):
                _forget(checkpoint)

    def _validated(
        self, handle: LibvirtObject, bitmap: Bitmap
    ) -> LibvirtObject:
        try:
            checkpoint: LibvirtObject = handle.checkpointCreateXML(
                checkpoint_xml.of_known(bitmap),
                libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
                | libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE,
            )
        except libvirt.libvirtError as error:
            if (
                error.get_error_code()
                != libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT
            ):
                raise
            raise exception.BitmapLost(
                domain=self._domain.name,
                disk=bitmap.disk,
                reason=error.get_error_message() or str(error),
            ) from error
        return checkpoint


def _ours(handle: LibvirtObject) -> list[tuple[str, LibvirtObject]]:
    named = (
        (checkpoint.getName(), checkpoint)
        for checkpoint in handle.listAllCheckpoints(0)
    )
    return [(name, each) for name, each in named if name.startswith(PREFIX)]


def _forget(checkpoint: LibvirtObject) -> None:
    checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
