# SPDX-License-Identifier: Apache-2.0
"""The files that the configuration was read from, and those that were not."""

from __future__ import annotations

import os
from collections.abc import Iterator

from oslo_config import cfg

from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict

SUBJECT = 'Configuration'


def files(conf: cfg.ConfigOpts) -> list[str]:
    """All files that were read, those of directories too.

    oslo.config passes over a directory that it may not look into.
    """
    found = [*conf.config_file]
    for directory in conf.config_dir:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        found += [
            os.path.join(directory, name)
            for name in names
            if name.endswith('.conf') and not name.startswith('.')
        ]
    return found


def findings(conf: cfg.ConfigOpts, has_nova: bool) -> Iterator[Finding]:
    """
    :param has_nova: there is a nova-compute, which has a configuration
    """
    read, unread = files(conf), nova_options.unread_files(conf)
    if not read and has_nova:
        yield _warning(
            f'{NOT_KNOWN} no nova.conf was found, and what is said here is '
            'about the defaults. Name each file that nova-compute reads with '
            '--config-file.'
        )
    elif unread:
        yield _warning(
            f'{" and ".join(unread)} was not read, and nova-compute reads it '
            'unless it is told otherwise. Give it too: '
            + ' '.join(
                f'--config-file {path}'
                for path in [*conf.config_file, *unread]
            )
        )
    else:
        yield Finding(
            SUBJECT,
            Verdict.SUCCESS,
            ', '.join(read) or 'no file was found, and the defaults hold',
        )
    yield from _hidden_directories(conf)


def _hidden_directories(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    for path in conf.config_dir:
        try:
            os.listdir(path)
        except OSError as error:
            yield _warning(
                f'{NOT_KNOWN} nobody could look into it ({error.strerror}), '
                'and nova-compute reads it. Run this command as a user who '
                'may.',
                path,
            )


def _warning(detail: str, path: str | None = None) -> Finding:
    subject = SUBJECT if path is None else f'{SUBJECT} {path}'
    return Finding(subject, Verdict.WARNING, detail)
