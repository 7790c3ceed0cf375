# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot verify``: the proof of snapshots in Cinder."""

from __future__ import annotations

import argparse
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.transfer.worker import Worker
from nova_snapshot_driver.verification.verify import Finding
from nova_snapshot_driver.verification.verify import Verifier


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'verify',
        parents=[common],
        help='prove that snapshots in Cinder are as they were when they were '
        'taken',
        description='Read the whole disk of each snapshot in Cinder, and '
        'compare it with the hash that was recorded when it was taken. '
        'Nothing is attached or changed. The exit status is 1 if one is '
        'damaged or can not be read; the others are verified all the same.',
    )
    parser.add_argument(
        'snapshots',
        metavar='SNAPSHOT',
        nargs='+',
        help='the id of the image of a snapshot, or of the snapshot in Cinder',
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    settings = read_settings(conf)
    context = cloud.of(arguments, conf)
    with (
        Host.open(conf.libvirt.connection_uri) as host,
        output.progress_bars() as progress,
    ):
        verifier = Verifier(
            context,
            settings.destination.ceph,
            host.secret,
            Worker(settings.transfer, progress, cancellation),
        )
        findings = list(verifier.verify(arguments.snapshots))
    failed = sum(not finding.is_intact for finding in findings)
    if arguments.format == 'json':
        output.print_json([_to_dict(finding) for finding in findings])
    else:
        output.print_verdicts(
            [_verdict(finding) for finding in findings],
            f'{len(findings)} verified, {failed} not intact',
        )
    return int(failed > 0)


def _to_dict(finding: Finding) -> dict[str, Any]:
    recorded, error = finding.recorded, finding.error
    snapshot = None if recorded is None else recorded.snapshot
    return {
        'name': finding.name,
        'image': snapshot and snapshot.image,
        'snapshot': snapshot and snapshot.id,
        'volume': recorded and recorded.volume,
        'intact': finding.is_intact,
        'recorded': snapshot and snapshot.tree,
        'found': finding.found,
        'error': error.to_dict() if error else None,
    }


def _verdict(finding: Finding) -> tuple[str, str, str]:
    if finding.is_intact:
        return finding.name, 'SUCCESS', 'as it was when it was captured'
    if finding.error is not None:
        return finding.name, 'FAILURE', str(finding.error)
    return (
        finding.name,
        'FAILURE',
        'it has other content than when it was captured',
    )
