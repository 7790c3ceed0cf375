# SPDX-License-Identifier: Apache-2.0
"""Things that still need the package on this host, in the order of removal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Sequence

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import compute_driver
from nova_snapshot_driver.cmd.check import leftovers
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check import own_options
from nova_snapshot_driver.cmd.check import running_api
from nova_snapshot_driver.cmd.check import units
from nova_snapshot_driver.cmd.check.api_paste import ApiPaste
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.finding import look
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.state import journal
from nova_snapshot_driver.state import status

#: The reason for which nova-api comes first.
TRAP = 'Without the package it does not start.'


def findings(
    conf: cfg.ConfigOpts,
    options: cfg.ConfigOpts,
    service_user: ServiceUser,
) -> Iterator[Finding]:
    """The findings of ``check --before-removal``.

    :param options: those of ``nova_options``
    """
    files = [*conf.config_file, *nova_options.unread_files(conf)]
    yield from _api_paste(options.wsgi.api_paste_config, files)
    yield _running_api(service_user)
    yield look('Snapshots', lambda: _snapshots(conf.snapshot.state_directory))
    yield from _compute_driver(files)
    yield from units.findings()
    yield from leftovers.findings(conf, files)
    yield Finding(
        'Elsewhere',
        Verdict.WARNING,
        f'{NOT_KNOWN} other hosts, the nova-apis that did not answer, whether '
        'nova-compute was restarted since its configuration has changed, '
        'alert rules in Prometheus, and a dashboard in Grafana cannot be seen '
        'from here.',
    )


def _api_paste(name: str, files: Sequence[str]) -> Iterator[Finding]:
    paths = api_paste.candidates(name, files)
    for path in paths:
        try:
            has_ours = ApiPaste.read(path).has_ours
        except (OSError, exception.SnapshotError) as error:
            yield Finding(
                api_paste.SUBJECT,
                Verdict.FAILURE,
                f'{NOT_KNOWN} {path} cannot be read: {error}',
            )
            continue
        if has_ours:
            yield Finding(
                api_paste.SUBJECT,
                Verdict.FAILURE,
                f'{path} has nova-api load the driver. {TRAP} Write in '
                f'[{api_paste.SECTION}]: {api_paste.OPTION} = '
                f'{api_paste.UPSTREAM} and restart nova-api.',
            )
        else:
            yield Finding(
                api_paste.SUBJECT,
                Verdict.SUCCESS,
                f'{path} does not name the driver',
            )
    if not paths:
        yield Finding(
            api_paste.SUBJECT,
            Verdict.SUCCESS,
            'there is none, and so no nova-api on this host',
        )


def _running_api(service_user: ServiceUser) -> Finding:
    try:
        running = running_api.ask(service_user)
    except exception.SnapshotError as error:
        return Finding(
            running_api.SUBJECT,
            Verdict.WARNING,
            f'{NOT_KNOWN} nobody could ask the nova-api that runs: {error}',
        )
    if running.version is None:
        return Finding(
            running_api.SUBJECT,
            Verdict.SUCCESS,
            f'the one that answered at {running.url} has not loaded the '
            'driver',
        )
    return Finding(
        running_api.SUBJECT,
        Verdict.FAILURE,
        f'The one that answered at {running.url} has loaded the driver '
        f'{running.version}. Restart it without the line in its '
        f'api-paste.ini. {TRAP}',
    )


def _snapshots(directory: str) -> str:
    """See that nothing of a snapshot is left, neither alive nor dead.

    :raises SnapshotError: something is, or nobody can tell
    """
    if not os.path.lexists(directory):
        return f'none was taken with this configuration: no {directory}'
    if running := status.running(directory):
        domains = ', '.join(each.domain for each in running)
        raise exception.SnapshotError(
            reason=f'Snapshots are being taken of {domains}. Wait for them: '
            '"nova-snapshot status --watch".'
        )
    if abandoned := journal.abandoned(directory):
        domains = ', '.join(entry.name for entry in abandoned)
        raise exception.SnapshotError(
            reason=f'Snapshots of {domains} have died and left something, '
            'which no other driver undoes: "nova-snapshot recover".'
        )
    return 'none is running, and none that died has left anything'


def _compute_driver(files: Sequence[str]) -> Iterator[Finding]:
    subject = 'compute_driver'
    named = [
        path
        for path in files
        if compute_driver.OURS
        in own_options.values(path, 'DEFAULT', 'compute_driver')
    ]
    if not named:
        yield Finding(
            subject,
            Verdict.SUCCESS,
            f'it does not name the driver in what was read '
            f'({", ".join(files) or "no file"})',
        )
    for path in named:
        yield Finding(
            subject,
            Verdict.FAILURE,
            f'{path} names the driver. Without the package nova-compute does '
            f'not start. Write in [DEFAULT]: compute_driver = '
            f'{compute_driver.UPSTREAM} and restart nova-compute.',
        )
