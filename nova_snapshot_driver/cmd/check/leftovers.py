# SPDX-License-Identifier: Apache-2.0
"""The leftovers of the driver on a host, which harm nothing."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

from oslo_config import cfg

from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.nova_files import NovaFile
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.takings import temporary_files

GROUP = 'snapshot'

#: The option of nova-api by which images do not inherit properties.
INHERITANCE = 'non_inheritable_image_properties'

#: The local rules of AppArmor for QEMU, and what only ours has: the name of
#: the profile, or the suffix that an earlier page had.
APPARMOR = '/etc/apparmor.d/local/abstractions/libvirt-qemu'
_RULE = re.compile(r'^\s*/\S*(@\{profile_name\}\.\*/s|\*\.nbd\S*)\s', re.M)

#: The directory in which the packages of Debian and Ubuntu are.
PACKAGES = '/usr/lib/python3/dist-packages'
LINK = 'nova/virt/snapshot_driver'

_UUID = r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'

#: A directory that a snapshot makes: its workspace, or that of a socket.
_TEMPORARY = re.compile(
    rf'{_UUID}-.+|{temporary_files.OWN}{_UUID}\..+|{_UUID}\.nbd'
)


def findings(
    conf: cfg.ConfigOpts, files: Sequence[NovaFile]
) -> Iterator[Finding]:
    """The findings of what remains, in the order in which it is taken out.

    :param files: of Nova's configuration
    """
    for file in files:
        yield from _group(file)
        yield from _inheritance(file)
    if conf.snapshot.metrics_file is not None:
        yield from _there(
            'Metrics',
            conf.snapshot.metrics_file,
            'node_exporter goes on reporting what was written last. Remove it',
        )
    yield from _apparmor()
    yield from _links()
    directories = {
        'Snapshots directory': conf.libvirt.snapshots_directory,
        'Scratch directory': conf.snapshot.scratch_directory,
    }
    for subject, directory in directories.items():
        if directory:
            yield from _temporary(subject, directory)
    yield from _there(
        'State directory',
        conf.snapshot.state_directory,
        'Once nothing else is found, and the package is gone, remove it',
        '-r',
    )


def _group(file: NovaFile) -> Iterator[Finding]:
    if GROUP in file.sections:
        names = ', '.join(file.sections[GROUP]) or 'nothing'
        yield _warning(
            f'[{GROUP}]',
            f'{file.path} has the section, with {names}. Nobody reads it '
            'without the package. Delete it.',
        )


def _inheritance(file: NovaFile) -> Iterator[Finding]:
    values = file.values('DEFAULT', INHERITANCE)
    if any(ours in value for value in values for ours in metadata.OURS):
        yield _warning(
            INHERITANCE,
            f'{file.path} names properties of the driver. Keep them for as '
            'long as there are servers made from its images: their snapshots '
            'would inherit what is true of another image.',
        )


def _apparmor() -> Iterator[Finding]:
    try:
        with open(APPARMOR, encoding='utf-8', errors='replace') as file:
            has_rule = _RULE.search(file.read()) is not None
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield _not_known('AppArmor', APPARMOR, error)
        return
    if has_rule:
        yield _warning(
            'AppArmor',
            f'{APPARMOR} lets QEMU make the sockets of snapshots. Delete the '
            'line, and run "systemctl reload apparmor".',
        )


def _links() -> Iterator[Finding]:
    """The link by which Nova finds the driver in another directory."""
    for directory in dict.fromkeys([PACKAGES, *filter(None, sys.path)]):
        path = os.path.join(directory, LINK)
        if os.path.islink(path):
            yield _warning(
                'Link',
                f'{path} was made by hand, and pip does not remove it. Once '
                f'the package is gone, remove it: {_rm(path)}',
            )


def _temporary(subject: str, directory: str) -> Iterator[Finding]:
    def found() -> Iterator[Finding]:
        left = [
            os.path.join(directory, name)
            for name in sorted(os.listdir(directory))
            if _TEMPORARY.fullmatch(name)
        ]
        if left:
            yield _warning(
                subject,
                'Files of snapshots are there. Once no snapshot runs, and '
                f'none that died has left anything, remove them as root: '
                f'{_rm(*left, flag="-r")}',
            )

    yield from _as_far_as_seen(subject, directory, found)


def _there(
    subject: str, path: str, advice: str, flag: str | None = None
) -> Iterator[Finding]:
    def found() -> Iterator[Finding]:
        os.lstat(path)
        yield _warning(
            subject, f'{path} is there. {advice}: {_rm(path, flag=flag)}'
        )

    yield from _as_far_as_seen(subject, path, found)


def _as_far_as_seen(
    subject: str, path: str, look: Callable[[], Iterator[Finding]]
) -> Iterator[Finding]:
    """The findings about a path; nothing where there is none."""
    try:
        yield from look()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield _not_known(subject, path, error)


def _rm(*paths: str, flag: str | None = None) -> str:
    return shlex.join(['rm', *filter(None, [flag]), *paths])


def _warning(subject: str, detail: str) -> Finding:
    return Finding(subject, Verdict.WARNING, detail)


def _not_known(subject: str, path: str, error: OSError) -> Finding:
    return _warning(
        subject, f'{NOT_KNOWN} {path} cannot be looked at: {error.strerror}'
    )
