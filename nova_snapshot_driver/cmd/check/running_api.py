# SPDX-License-Identifier: Apache-2.0
"""The nova-api that runs, which may be another than its files say.

Its answers have a header where it has loaded this driver.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from collections.abc import Sequence

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check.api_paste import ApiPaste
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.cmd.check.service_user import asking
from nova_snapshot_driver.common import version

SUBJECT = 'nova-api'

SERVICE_TYPE = 'compute'

#: A request that every user may make, to the application that has the header.
REQUEST = '/flavors?limit=1'


@dataclasses.dataclass(frozen=True)
class RunningApi:
    """A nova-api; others may be behind the same address.

    :ivar version: of the driver that it has loaded; None if it has not
    """

    url: str
    version: str | None


def ask(service_user: ServiceUser) -> RunningApi:
    """The nova-api that answers the service user.

    :raises SnapshotError: none does, or its answer does not tell
    """
    if not service_user.is_configured:
        raise exception.SnapshotError(
            reason='[service_user] is not configured, as whom nova-api would '
            'be asked.'
        )
    nova = service_user.requests_to(SERVICE_TYPE)
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
    if loaded is None and not answer.ok:
        raise exception.SnapshotError(
            reason=f'{url} answers with the HTTP status {answer.status_code}.'
        )
    return RunningApi(url, loaded)


def findings(
    name: str, files: Sequence[str], service_user: ServiceUser
) -> Iterator[Finding]:
    """Whether the nova-api that runs is the one of its file.

    :param name: ``[wsgi] api_paste_config``
    :param files: the configuration files, beside which that file is
    """
    on_file = _on_file(name, files)
    try:
        running = ask(service_user)
    except exception.SnapshotError as error:
        # Without the line nobody expects anything of nova-api.
        if on_file:
            yield Finding(
                SUBJECT,
                Verdict.WARNING,
                f'{NOT_KNOWN} nobody could ask whether the nova-api that '
                f'runs has loaded the driver: {error}',
            )
        return
    yield _finding(running, on_file)


def _on_file(name: str, files: Sequence[str]) -> bool | None:
    """Whether api-paste.ini has the line; None where no file tells."""
    for path in api_paste.candidates(name, files):
        try:
            return ApiPaste.read(path).factory == api_paste.OURS
        except (OSError, exception.SnapshotError):
            # The finding about the file says so.
            return None
    return None


def _finding(running: RunningApi, on_file: bool | None) -> Finding:
    answered = f'The one that answered at {running.url}'
    if running.version is None and on_file:
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{answered} has not loaded the driver, though api-paste.ini has '
            'the line. Restart nova-api.',
        )
    if running.version is None:
        return Finding(
            SUBJECT,
            Verdict.SUCCESS,
            f"{answered} is Nova's own, which has Cinder snapshot the "
            'volumes of volume-backed servers itself',
        )
    if on_file is False:
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{answered} has loaded the driver, and api-paste.ini on this '
            'host does not have the line. Every nova-api of a cloud should '
            'have it: write it, or restart nova-api if it was taken out.',
        )
    return Finding(
        SUBJECT,
        Verdict.SUCCESS,
        f'{answered} leaves volume-backed servers to their hosts (driver '
        f'{running.version})',
    )
