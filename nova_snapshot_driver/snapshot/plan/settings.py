# SPDX-License-Identifier: Apache-2.0
"""The settings of an operator for how snapshots are planned."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import Method


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    """The options that a plan depends on.

    :ivar method: how every root disk is captured; None leaves it to the plan
    :ivar quiesce: where the instance asks for nothing else
    :ivar pause: ``auto``, ``always`` or ``never``, of a guest on volumes
    :ivar image_format: of every image; None has that of the source
    :ivar compression: of images in qcow2, zstd or zlib; None for none
    :ivar compression_level: from 1 (fast) on
    :ivar allows_live: a running guest need not be suspended
    :ivar encrypts_local_disks: Nova keeps the disks of instances encrypted
    :ivar rbd_user: of Ceph; None for that of the domain
    :ivar rbd_conf: the file of Ceph's configuration; empty for the usual one
    """

    method: Method | None = None
    quiesce: QuiescePolicy = QuiescePolicy.AUTO
    pause: str = 'auto'
    image_format: str | None = None
    compression: str | None = None
    compression_level: int = 1
    allows_live: bool = True
    encrypts_local_disks: bool = False
    rbd_user: str | None = None
    rbd_conf: str = ''
