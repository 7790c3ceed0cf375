# SPDX-License-Identifier: Apache-2.0
"""The functions that root runs for the driver, in nova's privsep daemon.

The daemon imports this module, and calls nothing else of the driver. Nova's
context takes functions of modules whose names begin with ``nova``
(``oslo_privsep.priv_context``). Those that Nova has itself follow links
(``nova.privsep.path``), and a guest's QEMU may have put one there.
"""

from __future__ import annotations

import nova.privsep

from nova_snapshot_driver.common import ownership
from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.ownership import Kind


@nova.privsep.sys_admin_pctxt.entrypoint
def entrust(directory: str, owner: int, uid: int, gid: int) -> None:
    """Call ``ownership.entrust`` as root."""
    ownership.entrust(directory, owner, uid, gid)


@nova.privsep.sys_admin_pctxt.entrypoint
def claim(
    path: str,
    kind: str,
    owners: list[int],
    claimant: int,
    device: int,
    number: int,
) -> None:
    """Call ``ownership.claim`` as root, with numbers in place of an object."""
    ownership.claim(path, Kind(kind), owners, claimant, Inode(device, number))
