# SPDX-License-Identifier: Apache-2.0
"""The option ``--into``, by which a snapshot goes into a chain of files."""

from __future__ import annotations

import argparse
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.result import Snapshot

#: Why a chain of files can't honour an option.
_REFUSED = {
    '--output': 'a snapshot goes to one place',
    '--image-format': 'all images of a chain are of qcow2',
    '--compress': 'the images of a chain are not compressed',
    '--pause': 'it is about volumes, which go to Cinder alone',
}


def add_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--into',
        metavar='DIR',
        help='add the snapshot to a chain of files, which is made if it is '
        'missing: the first one is full, and the others have what has changed',
    )


def take(
    arguments: argparse.Namespace,
    driver: SnapshotDriver,
    cancellation: Cancellation,
) -> tuple[Snapshot, dict[str, Any]]:
    """Take the snapshot.

    :returns: the snapshot, and what the result says of its image
    """
    with output.progress_bars() as progress:
        snapshot = driver.snapshot_to_chain(
            Instance(domain=arguments.domain),
            arguments.into,
            arguments.name,
            progress,
            cancellation,
        )
    [disk] = snapshot.disks
    increment = disk.increment
    assert increment is not None  # noqa: S101 (for mypy)
    return snapshot, {
        'image': None,
        'name': increment.name,
        'file': increment.file,
    }


def require_honourable(arguments: argparse.Namespace) -> None:
    """
    :raises OptionRefused: an option is given that a chain can't honour
    """
    refused = {
        '--output': arguments.output is not None,
        '--image-format': arguments.image_format not in (None, 'qcow2'),
        '--compress': arguments.compress is not None,
        '--pause': arguments.pause is not None,
    }
    for option, is_given in refused.items():
        if is_given:
            raise exception.OptionRefused(
                option=option, other='--into', reason=_REFUSED[option]
            )
