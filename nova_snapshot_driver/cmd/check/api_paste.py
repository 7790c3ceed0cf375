# SPDX-License-Identifier: Apache-2.0
"""The line by which nova-api leaves volume-backed servers to their hosts."""

from __future__ import annotations

import configparser
import dataclasses
import os
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Self

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.paths import may_exist

SECTION = 'app:osapi_compute_app_v21'
OPTION = 'paste.app_factory'
OURS = 'nova_snapshot_driver.nova.api:app_factory'
UPSTREAM = 'nova.api.openstack.compute:APIRouterV21.factory'

SUBJECT = 'api-paste.ini'

REMEDY = f'Write in [{SECTION}]: {OPTION} = {OURS}'

#: The directory in which distributions keep api-paste.ini.
USUAL_DIRECTORY = '/etc/nova'


@dataclasses.dataclass(frozen=True)
class ApiPaste:
    """A file api-paste.ini.

    :ivar factory: of the application of servers; None if the file has none
    :ivar elsewhere: the other sections that name the factory of this driver
    """

    path: str
    factory: str | None
    elsewhere: tuple[str, ...]

    @classmethod
    def read(cls, path: str) -> Self:
        """
        :raises PermissionError: this user may not read it
        :raises SnapshotError: it can't be read
        """
        # paste.deploy takes a percent sign literally.
        parser = configparser.RawConfigParser(strict=False)
        try:
            with open(path, encoding='utf-8') as file:
                parser.read_file(file)
        except PermissionError:
            raise
        except (OSError, ValueError, configparser.Error) as error:
            raise exception.SnapshotError(
                reason=f'{path} cannot be read: {error}'
            ) from error
        return cls(
            path,
            parser.get(SECTION, OPTION, fallback=None),
            tuple(
                section
                for section in parser.sections()
                if section != SECTION and OURS in parser[section].values()
            ),
        )

    @property
    def has_ours(self) -> bool:
        """Whether nova-api imports this driver, for whatever section."""
        return self.factory == OURS or bool(self.elsewhere)


def candidates(name: str, files: Sequence[str]) -> list[str]:
    """The files of nova-api, likeliest first; none on a host without one.

    :param name: ``[wsgi] api_paste_config``
    :param files: the configuration files, beside which it is looked for
    """
    directories = [*map(os.path.dirname, files), USUAL_DIRECTORY]
    paths = dict.fromkeys(
        os.path.join(directory, os.path.expanduser(name))
        for directory in directories
    )
    return [path for path in paths if may_exist(path)]


def findings(name: str, files: Sequence[str]) -> Iterator[Finding]:
    """Whether the line is there, and right.

    :param name: ``[wsgi] api_paste_config``
    :param files: the configuration files, beside which it is looked for
    :returns: nothing on a host that has no nova-api
    """
    for path in candidates(name, files)[:1]:
        try:
            yield _finding(ApiPaste.read(path))
        except PermissionError as error:
            yield _not_known(path, error)
        except exception.SnapshotError as error:
            yield Finding(SUBJECT, Verdict.FAILURE, str(error))


def _not_known(path: str, error: OSError) -> Finding:
    return Finding(
        SUBJECT,
        Verdict.WARNING,
        f'{NOT_KNOWN} {path} cannot be read ({error.strerror}). Run this '
        'command as a user who may read it.',
    )


def _finding(found: ApiPaste) -> Finding:
    path = found.path
    if found.factory == OURS:
        return Finding(
            SUBJECT,
            Verdict.SUCCESS,
            f'{path}: nova-api leaves volume-backed servers to their hosts',
        )
    if found.elsewhere:
        return Finding(
            SUBJECT,
            Verdict.FAILURE,
            f'{path} has the line in [{found.elsewhere[0]}], where it does '
            f'nothing. {REMEDY}',
        )
    if found.factory == UPSTREAM:
        return Finding(
            SUBJECT,
            Verdict.WARNING,
            f'{path}: nova-api has Cinder snapshot the volumes of '
            'volume-backed servers itself, one after the other. To have this '
            f'driver do it: {REMEDY}',
        )
    if found.factory is None:
        return Finding(
            SUBJECT,
            Verdict.FAILURE,
            f'{path} has no section [{SECTION}] with a {OPTION}. Take that '
            'of your Nova.',
        )
    return Finding(
        SUBJECT,
        Verdict.FAILURE,
        f'{path}: {found.factory} is neither of this driver nor of Nova. '
        f'{REMEDY}',
    )
