# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot chain``: the snapshots in a chain of files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver.chain import prune
from nova_snapshot_driver.chain import restore
from nova_snapshot_driver.chain import verify
from nova_snapshot_driver.chain.verify import Finding
from nova_snapshot_driver.chain.worker import ChainWorker
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.new_file import NewFile
from nova_snapshot_driver.common.progress import Progress
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.state.chain import Chain
from nova_snapshot_driver.state.chain_record import ChainRecord
from nova_snapshot_driver.state.workspace import MIB

TITLES = ('Name', 'Created', 'Way', 'Disk', 'Changed', 'File', 'Reason')

#: The formats that are written in one pass, and compared on the way.
FORMATS = ('qcow2', 'raw')

#: How many a chain can be made to keep.
LEAST = 1

Run = Callable[
    [argparse.Namespace, cfg.ConfigOpts, Cancellation],
    int,
]


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'chain',
        help='list, verify, restore and prune the snapshots in a chain of '
        'files',
        description='Take care of a chain of files, which "nova-snapshot '
        'create DOMAIN --into DIR" makes. No domain is touched.',
    )
    actions = parser.add_subparsers(
        title='actions', metavar='ACTION', required=True, dest='action'
    )
    _add_list(actions, common)
    _add_verify(actions, common)
    _add_restore(actions, common)
    _add_prune(actions, common)
    for action in actions.choices.values():
        action.epilog = '"nova-snapshot --help" lists the exit statuses.'


def _add(
    actions: Any,
    common: argparse.ArgumentParser,
    name: str,
    run: Run,
    **words: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, parents=[common], **words
    )
    parser.add_argument(
        'directory', metavar='DIR', help='the directory of the chain'
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])
    return parser


def _add_list(actions: Any, common: argparse.ArgumentParser) -> None:
    _add(
        actions,
        common,
        'list',
        run_list,
        help='list the snapshots, oldest first',
        description='List the snapshots of a chain, oldest first, from their '
        'records. No image is read.',
    )


def _add_verify(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = _add(
        actions,
        common,
        'verify',
        run_verify,
        help='prove that snapshots are as they were when they were taken',
        description='Read the whole disk of each snapshot, and compare it '
        'with the hashes that were recorded when it was taken. The exit '
        'status is 1 if one is damaged.',
    )
    parser.add_argument(
        'names',
        metavar='NAME',
        nargs='*',
        help='the snapshots (default: all of them)',
    )


def _add_restore(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = _add(
        actions,
        common,
        'restore',
        run_restore,
        help='write the disk of a snapshot to a file of its own',
        description='Write the disk of a snapshot to a file that needs no '
        'other one, and prove it. The file must not exist yet.',
    )
    parser.add_argument('name', metavar='NAME', help='the snapshot')
    parser.add_argument('file', metavar='FILE', help='the file')
    parser.add_argument(
        '--image-format',
        choices=FORMATS,
        default='qcow2',
        help='the format of the file (default: %(default)s)',
    )


def _add_prune(actions: Any, common: argparse.ArgumentParser) -> None:
    parser = _add(
        actions,
        common,
        'prune',
        run_prune,
        help='remove all but the newest snapshots',
        description='Remove all but the newest snapshots. The oldest one that '
        'stays becomes full, which needs the space of its disk for a while.',
    )
    parser.add_argument(
        '--keep',
        type=_count,
        required=True,
        metavar='N',
        help='how many stay',
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no number from {LEAST} on'
        )
    return int(text)


def run_list(
    arguments: argparse.Namespace,
    _conf: cfg.ConfigOpts,
    _cancellation: Cancellation,
) -> int:
    with Chain.open(arguments.directory) as chain:
        records = chain.records()
    if arguments.format == 'json':
        output.print_json([record.to_dict() for record in records])
    elif records:
        newest = records[-1]
        domain = reason.plain(newest.domain)
        output.print_line(
            f'Disk {newest.disk} of domain {domain} ({newest.uuid})'
        )
        output.print_table(TITLES, [_in_words(each) for each in records])
    else:
        output.print_line('There is no snapshot in this chain.')
    return 0


def run_verify(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    with (
        Chain.open(arguments.directory) as chain,
        output.progress_bars() as progress,
    ):
        worker = _worker(conf, progress, cancellation)
        findings = list(verify.verify(chain, arguments.names, worker))
    damaged = sum(not finding.is_intact for finding in findings)
    if arguments.format == 'json':
        output.print_json([_to_dict(finding) for finding in findings])
    else:
        output.print_verdicts(
            [_verdict(finding) for finding in findings],
            f'{len(findings)} verified, {damaged} damaged',
        )
    return int(damaged > 0)


def run_restore(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    with (
        Chain.open(arguments.directory) as chain,
        output.progress_bars() as progress,
    ):
        file = NewFile(arguments.file, 'FILE')
        record, size = restore.restore(
            chain,
            arguments.name,
            file,
            arguments.image_format,
            _worker(conf, progress, cancellation),
        )
    result = {
        'name': record.name,
        'domain': record.domain,
        'created': record.created,
        'file': file.path,
        'format': arguments.image_format,
        'size': size,
    }
    if arguments.format == 'json':
        output.print_json(result)
    else:
        output.print_record(
            {
                'Snapshot': f'{record.name} of domain '
                f'{reason.plain(record.domain)}',
                'Created': record.created,
                'File': file.path,
                'Format': arguments.image_format,
                'Size': f'{size} bytes',
            }
        )
    return 0


def run_prune(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    with (
        Chain.open(arguments.directory) as chain,
        output.progress_bars() as progress,
    ):
        pruned = prune.prune(
            chain, arguments.keep, _worker(conf, progress, cancellation)
        )
    if arguments.format == 'json':
        output.print_json(
            {
                'removed': pruned.removed,
                'kept': pruned.kept,
                'merged': pruned.merged,
            }
        )
        return 0
    output.print_record(
        {
            'Removed': ', '.join(pruned.removed) or 'none',
            'Kept': ', '.join(pruned.kept) or 'none',
            **({'Full now': pruned.merged} if pruned.merged else {}),
        }
    )
    return 0


def _worker(
    conf: cfg.ConfigOpts, progress: Progress, cancellation: Cancellation
) -> ChainWorker:
    return ChainWorker(read_settings(conf).transfer, progress, cancellation)


def _in_words(record: ChainRecord) -> tuple[str, ...]:
    return (
        record.name,
        record.created,
        record.way.value,
        f'{record.size / MIB:.0f} MiB',
        f'{record.changed / MIB:.1f} MiB',
        f'{record.written / MIB:.1f} MiB',
        reason.plain(record.reason or ''),
    )


def _to_dict(finding: Finding) -> dict[str, Any]:
    verdict, error = finding.verdict, finding.error
    return {
        'name': finding.name,
        'intact': finding.is_intact,
        'damaged': verdict.damaged if verdict else None,
        'offsets': verdict.offsets if verdict else None,
        'error': error.to_dict() if error else None,
    }


def _verdict(finding: Finding) -> tuple[str, str, str]:
    verdict = finding.verdict
    if verdict is None:
        return finding.name, 'FAILURE', str(finding.error)
    if not verdict.damaged:
        return finding.name, 'SUCCESS', 'as it was when it was captured'
    offsets = ', '.join(map(str, verdict.offsets))
    return (
        finding.name,
        'FAILURE',
        f'{verdict.damaged} MiB differ from what was captured, from these '
        f'offsets on: {offsets}',
    )
