# SPDX-License-Identifier: Apache-2.0
"""Things that still need the package on this host, in the order of removal.

Where what may break can't be looked at, that is a failure too: nobody can say
that the package may go.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import compute_driver
from nova_snapshot_driver.cmd.check import leftovers
from nova_snapshot_driver.cmd.check import nova_files
from nova_snapshot_driver.cmd.check import running_api
from nova_snapshot_driver.cmd.check import unfinished
from nova_snapshot_driver.cmd.check import units
from nova_snapshot_driver.cmd.check.api_paste import ApiPaste
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.nova_files import NovaFile
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.common import reason

#: The reason why nova-api comes first.
TRAP = 'Without the package, nova-api does not come up at its next reload.'

ELSEWHERE = Finding(
    'Elsewhere',
    Verdict.WARNING,
    f'{NOT_KNOWN} what other hosts and other nova-apis have; whether '
    'nova-compute was restarted since its configuration was changed; the '
    'alert rules of Prometheus, the directories that node_exporter reads, and '
    'the dashboard in Grafana; the completion in the start files of shells. '
    'None of it can be seen from here.',
)


def findings(
    conf: cfg.ConfigOpts,
    options: cfg.ConfigOpts,
    service_user: ServiceUser,
) -> Iterator[Finding]:
    """The findings of ``check --before-removal``.

    :param options: those of ``nova_options``
    """
    paths = nova_files.known(conf)
    candidates = api_paste.candidates(options.wsgi.api_paste_config, paths)
    yield from _api_paste(candidates)
    yield _running_api(service_user, has_nova_api=bool(candidates))
    yield from unfinished.findings(conf.snapshot.state_directory)
    files = []
    for path in paths:
        try:
            files.append(NovaFile.read(path))
        except exception.ConfigurationInvalid as error:
            yield _failure(
                'Configuration',
                f'{NOT_KNOWN} whether {path} names the driver. {error}',
            )
    yield from _compute_driver(files)
    yield from units.findings()
    yield from leftovers.findings(conf, files)
    yield ELSEWHERE


def _api_paste(candidates: Sequence[str]) -> Iterator[Finding]:
    if not candidates:
        yield _success(
            api_paste.SUBJECT,
            'there is none beside what was read, nor in '
            f'{api_paste.USUAL_DIRECTORY}',
        )
    for path in candidates:
        try:
            found = ApiPaste.read(path)
        except (OSError, exception.SnapshotError) as error:
            yield _failure(
                api_paste.SUBJECT,
                f'{NOT_KNOWN} {reason.of(error)}. It may name the driver.',
            )
            continue
        if found.has_ours:
            yield _failure(
                api_paste.SUBJECT,
                f'{path} has nova-api load the driver. {TRAP} Write in '
                f'[{api_paste.SECTION}]: {api_paste.OPTION} = '
                f'{api_paste.UPSTREAM}, and restart nova-api.',
            )
        else:
            yield _success(
                api_paste.SUBJECT, f'{path} does not name the driver'
            )


def _running_api(service_user: ServiceUser, has_nova_api: bool) -> Finding:
    try:
        running = running_api.ask(service_user)
    except exception.SnapshotError as error:
        return running_api.not_known(error)
    if running.version is None:
        return _success(
            running_api.SUBJECT, f'{running} has not loaded the driver'
        )
    loaded = f'{running} has loaded the driver ({running.version}).'
    if has_nova_api:
        return _failure(
            running_api.SUBJECT,
            f'{loaded} {TRAP} Restart it once its api-paste.ini is '
            "Nova's own.",
        )
    return Finding(
        running_api.SUBJECT,
        Verdict.WARNING,
        f'{loaded} There is no api-paste.ini on this host: it needs the '
        'package where it runs, and not here.',
    )


def _compute_driver(files: Sequence[NovaFile]) -> Iterator[Finding]:
    subject = 'compute_driver'
    named = [
        file.path
        for file in files
        if compute_driver.OURS in file.values('DEFAULT', subject)
    ]
    if not named:
        read = ', '.join(file.path for file in files) or 'no file'
        yield _success(subject, f'the driver is not named in {read}')
    for path in named:
        yield _failure(
            subject,
            f'{path} names the driver. Without the package, nova-compute does '
            f'not start. Write in [DEFAULT]: {subject} = '
            f'{compute_driver.UPSTREAM}, and restart nova-compute.',
        )


def _success(subject: str, detail: str) -> Finding:
    return Finding(subject, Verdict.SUCCESS, detail)


def _failure(subject: str, detail: str) -> Finding:
    return Finding(subject, Verdict.FAILURE, detail)
