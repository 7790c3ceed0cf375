# SPDX-License-Identifier: Apache-2.0
"""The nova-api that runs, which may have read another file than lies there.

Its answers have a header where it has loaded this driver.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

import requests

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check.api_paste import ApiPaste
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.cmd.check.service_user import asking
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import version

SUBJECT = 'nova-api'

#: A request that every user may make. The root of the API is an application of
#: its own, without Keystone and without the header.
REQUEST = '/extensions/os-volumes'


@dataclasses.dataclass(frozen=True)
class RunningApi:
    """A nova-api; others may be behind the same address.

    :ivar version: of the driver that it has loaded; None if it has not
    """

    url: str
    version: str | None

    def __str__(self) -> str:
        return f'The nova-api that answered at {self.url}'


def ask(service_user: ServiceUser) -> RunningApi:
    """The nova-api that answers the service user.

    :raises SnapshotError: none does, or its answer does not tell
    """
    if not service_user.is_configured:
        raise exception.SnapshotError(
            reason='[service_user] is not configured, as whom nova-api would '
            'be asked.'
        )
    nova = service_user.requests_to('compute')
    url = asking(nova.get_endpoint)
    if url is None:
        raise exception.SnapshotError(
            reason="Keystone's catalog has no compute service."
        )
    try:
        answer = asking(lambda: nova.get(REQUEST, raise_exc=False))
    except exception.KeystoneUnavailable as error:
        raise exception.SnapshotError(
            reason=f'{url} does not answer: {error.fields["reason"]}.'
        ) from error
    loaded = answer.headers.get(version.HEADER)
    if loaded is not None:
        return RunningApi(url, reason.shortened(reason.plain(loaded)))
    if not _is_of_nova(answer):
        raise exception.SnapshotError(
            reason=f'{url}{REQUEST} is not answered as Nova does (HTTP status '
            f'{answer.status_code}).'
        )
    return RunningApi(url, None)


def _is_of_nova(answer: requests.Response) -> bool:
    """Whether Nova has answered, and not a proxy in front of it."""
    try:
        content = answer.json()
    except ValueError:
        return False
    return isinstance(content, dict) and 'extension' in content


def findings(
    name: str, files: Sequence[str], service_user: ServiceUser
) -> Iterator[Finding]:
    """Whether the nova-api that runs is the one of its file.

    :param name: ``[wsgi] api_paste_config``
    :param files: the configuration files, beside which that file is
    :returns: nothing on a host that has nothing of Nova
    """
    candidates = api_paste.candidates(name, files)
    if not candidates and not service_user.is_configured:
        return
    try:
        running = ask(service_user)
    except exception.SnapshotError as error:
        yield not_known(error)
        return
    yield _finding(running, _has_line(candidates))


def not_known(error: exception.SnapshotError) -> Finding:
    """The finding that nova-api could not be asked."""
    return Finding(
        SUBJECT,
        Verdict.WARNING,
        f'{NOT_KNOWN} whether the nova-api that runs has loaded the driver. '
        f'{error}',
    )


def _has_line(candidates: Sequence[str]) -> bool | None:
    """Whether api-paste.ini has the line; None where no file tells."""
    for path in candidates:
        try:
            return ApiPaste.read(path).factory == api_paste.OURS
        except (OSError, exception.SnapshotError):
            # The finding about the file says so.
            return None
    return None


def _finding(running: RunningApi, has_line: bool | None) -> Finding:
    if running.version is None and has_line:
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{running} has not loaded the driver, and api-paste.ini has the '
            'line. Restart nova-api.',
        )
    if running.version is None:
        return Finding(
            SUBJECT,
            Verdict.SUCCESS,
            f'{running} has not loaded the driver: Cinder snapshots the '
            'volumes of volume-backed servers one after the other',
        )
    if has_line is False:
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{running} has loaded the driver ({running.version}), and '
            'api-paste.ini on this host has not the line. If the line was '
            'taken out, restart nova-api before the package is uninstalled; '
            'otherwise write it there too: every nova-api of a cloud is to '
            'have it.',
        )
    return Finding(
        SUBJECT,
        Verdict.SUCCESS,
        f'{running} leaves volume-backed servers to their hosts (driver '
        f'{running.version})',
    )
