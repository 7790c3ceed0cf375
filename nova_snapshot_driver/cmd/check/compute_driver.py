# SPDX-License-Identifier: Apache-2.0
"""The option ``compute_driver``, by which nova-compute loads this driver."""

from __future__ import annotations

from collections.abc import Sequence

from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict

OURS = 'snapshot_driver.LibvirtSnapshotDriver'
UPSTREAM = 'libvirt.LibvirtDriver'

#: Nova's drivers for other hypervisors.
OTHERS = ('fake.', 'ironic.', 'vmwareapi.', 'zvm.')

REMEDY = f'Write in [DEFAULT]: compute_driver = {OURS}'


def is_meant(value: str) -> bool:
    """Whether the value names something other than a driver of Nova's own."""
    return value not in ('', UPSTREAM) and not value.startswith(OTHERS)


def finding(value: str, files: Sequence[str]) -> Finding:
    """
    :param value: of the option; empty where it is not set
    :param files: that were read
    """
    if value == OURS:
        return _finding(Verdict.SUCCESS, value)
    if value == UPSTREAM:
        return _finding(
            Verdict.WARNING,
            f"{value}: Nova's own driver takes the snapshots. To have this "
            f'one take them: {REMEDY}',
        )
    if value == '':
        return _finding(
            Verdict.WARNING,
            f'It is not set in what was read ({", ".join(files) or "none"}), '
            'and nova-compute does not start without it. Give the file that '
            f'sets it with --config-file, or set it. {REMEDY}',
        )
    if value.startswith(OTHERS):
        return _finding(
            Verdict.WARNING, f'{value} is for another hypervisor than libvirt.'
        )
    return _finding(
        Verdict.FAILURE,
        f'Nova looks for nova.virt.{value}, and that is not this driver. '
        f'{REMEDY}',
    )


def _finding(verdict: Verdict, detail: str) -> Finding:
    return Finding('compute_driver', verdict, detail)
