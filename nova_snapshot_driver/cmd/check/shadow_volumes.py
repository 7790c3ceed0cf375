# SPDX-License-Identifier: Apache-2.0
"""The means of snapshots that go to volumes in Cinder by default."""

from __future__ import annotations

from collections.abc import Iterator

from oslo_config import cfg

from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.snapshot.plan.instance import Target
from nova_snapshot_driver.transfer.nbd import libnbd

SUBJECT = 'Snapshots to Cinder'

#: QEMU's driver for Ceph.
CEPH = 'rbd'


def findings(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    """The findings where an option sends snapshots to Cinder.

    The key of Ceph is known when Cinder has named its user, and not before.
    """
    target = Target(conf.snapshot.target)
    if target is Target.IMAGE:
        return
    missing = list(_missing())
    if not missing:
        yield Finding(
            SUBJECT,
            Verdict.SUCCESS,
            f"[snapshot] target is {target.value}, and QEMU's tools open "
            'volumes in Ceph',
        )
    elif target is Target.AUTO:
        yield Finding(
            SUBJECT,
            Verdict.WARNING,
            f'All snapshots go to images: {"; ".join(missing)}.',
        )
    else:
        yield Finding(
            SUBJECT,
            Verdict.FAILURE,
            '[snapshot] target is volume, and no snapshot can go there: '
            f'{"; ".join(missing)}.',
        )


def _missing() -> Iterator[str]:
    if not libnbd.is_available():
        yield 'install libnbd for this Python (python3-libnbd)'
    if not qemu_img.has_driver(CEPH):
        yield (
            "install QEMU's driver for Ceph (qemu-block-extra on Debian and "
            'Ubuntu, qemu-kvm-block-rbd elsewhere)'
        )
