# SPDX-License-Identifier: Apache-2.0
"""The line by which nova-api leaves volume-backed servers to their hosts."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from collections.abc import Sequence

from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict

SECTION = 'app:osapi_compute_app_v21'
OPTION = 'paste.app_factory'
OURS = 'nova_snapshot_driver.nova.api:app_factory'
UPSTREAM = 'nova.api.openstack.compute:APIRouterV21.factory'

SUBJECT = 'api-paste.ini'

REMEDY = f'Write in [{SECTION}]: {OPTION} = {OURS}'

#: The directory in which distributions keep api-paste.ini.
USUAL_DIRECTORY = '/etc/nova'


def findings(name: str, files: Sequence[str]) -> Iterator[Finding]:
    """Whether the line is there, and right.

    :param name: ``[wsgi] api_paste_config``
    :param files: the configuration files, beside which it is looked for
    :returns: nothing on a host that has no nova-api
    """
    path = _find(name, files)
    if path is not None:
        yield _finding(path)


def _find(name: str, files: Sequence[str]) -> str | None:
    directories = [*map(os.path.dirname, files), USUAL_DIRECTORY]
    candidates = (
        os.path.join(directory, os.path.expanduser(name))
        for directory in directories
    )
    return next((path for path in candidates if os.path.exists(path)), None)


def _finding(path: str) -> Finding:
    # paste.deploy takes a percent sign literally.
    parser = configparser.RawConfigParser(strict=False)
    try:
        with open(path, encoding='utf-8') as file:
            parser.read_file(file)
    except (OSError, ValueError, configparser.Error) as error:
        return Finding(
            SUBJECT, Verdict.FAILURE, f'{path} cannot be read: {error}'
        )
    found = parser.get(SECTION, OPTION, fallback=None)
    if found == OURS:
        return Finding(
            SUBJECT,
            Verdict.SUCCESS,
            f'{path}: nova-api leaves volume-backed servers to their hosts',
        )
    elsewhere = [
        section
        for section in parser.sections()
        if section != SECTION and OURS in parser[section].values()
    ]
    if elsewhere:
        return Finding(
            SUBJECT,
            Verdict.FAILURE,
            f'{path} has the line in [{elsewhere[0]}], where it does '
            f'nothing. {REMEDY}',
        )
    if found == UPSTREAM:
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{path}: nova-api has Cinder snapshot the volumes of '
            'volume-backed servers itself, one after the other. To have this '
            f'driver do it: {REMEDY}',
        )
    if found is None:
        return Finding(
            SUBJECT,
            Verdict.FAILURE,
            f'{path} has no section [{SECTION}] with a {OPTION}. Take that '
            'of your Nova.',
        )
    return Finding(
        SUBJECT,
        Verdict.FAILURE,
        f'{path}: {found} is neither of this driver nor of Nova. {REMEDY}',
    )
