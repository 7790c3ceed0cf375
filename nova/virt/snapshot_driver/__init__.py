# SPDX-License-Identifier: Apache-2.0
"""Where Nova looks for a driver: beside its own, in ``nova.virt``.

    compute_driver = snapshot_driver.LibvirtSnapshotDriver

Source: ``nova.virt.driver.load_compute_driver``. There is no ``__init__.py``
in the directories above: they belong to Nova.
"""

from nova_snapshot_driver.nova.compute import LibvirtSnapshotDriver

__all__ = ['LibvirtSnapshotDriver']
