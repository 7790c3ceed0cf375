# SPDX-License-Identifier: Apache-2.0
"""The paths that QEMU can reach, where it runs as a user of its own.

Only what is certain is said. QEMU's own attempt may still fail, by a security
module or a network file system.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.domain import QemuUser
from nova_snapshot_driver.state.workspace import Place

ROOT = 0

#: Where a file system keeps an access control list. What such a list allows is
#: not in the mode.
_ACCESS_LIST = 'system.posix_acl_access'


def require(user: QemuUser | None, place: Place) -> None:
    """See that QEMU can come to a directory, as far as the modes tell.

    Of a directory that is yet to be made, those above it are looked at.

    :param user: that QEMU is; None where libvirt does not say it
    :raises DirectoryShut: it can't, for certain
    """
    # libvirt may have taken root's power from QEMU, or not.
    if user is None or user.uid == ROOT:
        return
    try:
        path = os.path.abspath(place.directory)
    except OSError:
        # Making the directory will fail with the reason.
        return
    for component in _components(path):
        try:
            status = os.stat(component)
        except OSError:
            # The directory is yet to be made, or hidden from this process.
            continue
        if not _may_pass(user, status) and not _has_access_list(component):
            raise exception.DirectoryShut(
                directory=component,
                mode=f'{stat.S_IMODE(status.st_mode):04o}',
                owner=user_name(status.st_uid),
                user=user_name(user.uid),
                bit=_bit(user, status),
                path=path,
                option=place.option,
            )


def _components(path: str) -> list[str]:
    """All directories on a way, and on that which its links lead to."""
    found: dict[str, None] = {}
    for way in (path, os.path.realpath(path)):
        parts = way.split(os.sep)
        for end in range(1, len(parts) + 1):
            found[os.sep.join(parts[:end]) or os.sep] = None
    return list(found)


def _bit(user: QemuUser, status: os.stat_result) -> str:
    """The bit by which the kernel lets a user pass, as chmod(1) has it."""
    if status.st_uid == user.uid:
        return 'u+x'
    groups, _ = _groups(user)
    return 'g+x' if status.st_gid in groups else 'o+x'


def _may_pass(user: QemuUser, status: os.stat_result) -> bool:
    """Whether a user may pass, or there is no telling."""
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    groups, are_all = _groups(user)
    if status.st_gid in groups:
        return bool(status.st_mode & stat.S_IXGRP)
    if status.st_mode & stat.S_IXOTH:
        return True
    return not are_all and bool(status.st_mode & stat.S_IXGRP)


def _groups(user: QemuUser) -> tuple[set[int], bool]:
    """The groups that libvirt puts QEMU in, and whether those are all."""
    groups = set() if user.gid is None else {user.gid}
    try:
        account = pwd.getpwuid(user.uid)
    except KeyError:
        # A user unknown here may be known outside of a container.
        return groups, False
    gid = account.pw_gid if user.gid is None else user.gid
    return groups | set(os.getgrouplist(account.pw_name, gid)), True


def _has_access_list(path: str) -> bool:
    with contextlib.suppress(OSError):
        os.getxattr(path, _ACCESS_LIST)
        return True
    return False


def user_name(uid: int) -> str:
    """The name of a user; the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f'#{uid}'
