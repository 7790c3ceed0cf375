# SPDX-License-Identifier: Apache-2.0
"""The leftovers of the driver on a host, which harm nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from collections.abc import Sequence

from oslo_config import cfg

from nova_snapshot_driver.cmd.check import own_options
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.takings import temporary_files

#: The option of nova-api by which images do not inherit properties.
INHERITANCE = 'non_inheritable_image_properties'

#: The beginning of the names of all properties that the driver writes.
PROPERTY = 'snapshot_'

#: The local rules of AppArmor for QEMU, and the text that only ours has.
APPARMOR = '/etc/apparmor.d/local/abstractions/libvirt-qemu'
APPARMOR_RULE = '/@{profile_name}.*/s'

#: The directories in which Python packages of a distribution lie.
PACKAGES = '/usr/lib/python3/dist-packages'
LINK = 'nova/virt/snapshot_driver'


def findings(conf: cfg.ConfigOpts, files: Sequence[str]) -> Iterator[Finding]:
    """
    :param files: of the configuration
    """
    for path in files:
        yield from _options(path)
    if conf.snapshot.metrics_file is not None:
        yield from _file(
            'Metrics',
            conf.snapshot.metrics_file,
            'node_exporter goes on to report its last values. '
            f'Remove it: {_rm(conf.snapshot.metrics_file)}',
        )
    link = os.path.join(PACKAGES, LINK)
    if os.path.islink(link):
        yield _warning(
            'Link', f'{link} was made by hand. Remove it: {_rm(link)}'
        )
    yield from _apparmor()
    yield from _temporary(conf)
    directory = conf.snapshot.state_directory
    yield from _file(
        'State directory',
        directory,
        f'It stays. Once the package is gone: {_rm(directory, "-r")}',
    )


def _options(path: str) -> Iterator[Finding]:
    names = own_options.names(path)
    if names:
        yield _warning(
            f'[{own_options.GROUP}]',
            f'{path} sets {", ".join(names)}. Nova ignores that section; '
            'take it out.',
        )
    lists = own_options.values(path, 'DEFAULT', INHERITANCE)
    if any(PROPERTY in value for value in lists):
        yield _warning(
            INHERITANCE,
            f'{path} names properties of the driver. Keep them for as long '
            'as there are images that have them.',
        )


def _file(subject: str, path: str, advice: str) -> Iterator[Finding]:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield _not_known(subject, path, error)
        return
    yield _warning(subject, f'{path} is there. {advice}')


def _apparmor() -> Iterator[Finding]:
    try:
        with open(APPARMOR, encoding='utf-8', errors='replace') as file:
            has_rule = APPARMOR_RULE in file.read()
    except FileNotFoundError:
        return
    except OSError as error:
        yield _not_known('AppArmor', APPARMOR, error)
        return
    if has_rule:
        yield _warning(
            'AppArmor',
            f'{APPARMOR} has a rule for the sockets of snapshots. Take it '
            'out, and run "systemctl reload apparmor".',
        )


def _temporary(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    """The directories that only snapshots make, and that one has left."""
    roots = dict.fromkeys(
        filter(
            None,
            (
                conf.libvirt.snapshots_directory,
                conf.snapshot.scratch_directory,
            ),
        )
    )
    for root in roots:
        try:
            names = sorted(os.listdir(root))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield _not_known('Temporary files', root, error)
            continue
        left = [
            os.path.join(root, name)
            for name in names
            if name.startswith(temporary_files.OWN)
        ]
        if left:
            yield _warning(
                'Temporary files',
                f'{", ".join(left)} was left by a snapshot. As root: '
                f'{shlex.join(["rm", "-r", *left])}',
            )


def _rm(path: str, *flags: str) -> str:
    return shlex.join(['rm', *flags, path])


def _warning(subject: str, detail: str) -> Finding:
    return Finding(subject, Verdict.WARNING, detail)


def _not_known(subject: str, path: str, error: OSError) -> Finding:
    return _warning(
        subject, f'{NOT_KNOWN} {path} cannot be read: {error.strerror}'
    )
