# SPDX-License-Identifier: Apache-2.0
"""The rights that a process gives up before it handles data of others.

The loss holds for threads and children that are started afterwards: the
process must not have any yet.

Source: prctl(2), capabilities(7), core(5)
"""

from __future__ import annotations

import ctypes
import enum
import os
import resource
from collections.abc import Collection

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

#: The version of the structures below, for 64 capabilities
#: (_LINUX_CAPABILITY_VERSION_3).
_VERSION = 0x20080522


class Capability(enum.IntEnum):
    """Capabilities without which root could not use files of others."""

    CHOWN = 0
    #: A disk, a directory and a socket may belong to another user.
    DAC_OVERRIDE = 1
    FOWNER = 3


class _Header(ctypes.Structure):
    _fields_ = (('version', ctypes.c_uint32), ('pid', ctypes.c_int))


class _Sets(ctypes.Structure):
    """Half of the capabilities; the upper half follows the lower one."""

    _fields_ = (
        ('effective', ctypes.c_uint32),
        ('permitted', ctypes.c_uint32),
        ('inheritable', ctypes.c_uint32),
    )


def give_up(keep: Collection[Capability] = ()) -> None:
    """Disable core dumps, forbid new privileges, and drop root's capabilities.

    :param keep: the capabilities that stay, where the process has them
    :raises OSError: the kernel refuses it
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # RLIMIT_CORE does not stop core dumps that are piped to a program. A
    # process that is not dumpable can't be traced by its own user either.
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _keep(keep)


def limit_memory(size: int, of_children: int) -> None:
    """Have an allocation fail before the memory of the host is used up.

    :param size: bytes of data, as RLIMIT_DATA has them
    :param of_children: to which a child of this process may raise it
    """
    resource.setrlimit(resource.RLIMIT_DATA, (size, of_children))


def _keep(keep: Collection[Capability]) -> None:
    permitted = _sets()[0].permitted
    if permitted:
        _bound(keep)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    kept = permitted & sum(1 << capability for capability in keep)
    sets = (_Sets * 2)(_Sets(kept, kept, 0), _Sets(0, 0, 0))
    _call('capset', ctypes.byref(_Header(_VERSION, 0)), sets)


def _bound(keep: Collection[Capability]) -> None:
    """Limit the capabilities of all programs that are started."""
    number = 0
    while _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        if number not in keep:
            try:
                _prctl(_PR_CAPBSET_DROP, number)
            except PermissionError:
                # Only a process with CAP_SETPCAP may shrink the bounding set;
                # without new privileges another one can't gain any anyway.
                return
        number += 1


def _sets() -> ctypes.Array[_Sets]:
    sets = (_Sets * 2)()
    _call('capget', ctypes.byref(_Header(_VERSION, 0)), sets)
    return sets


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    _call('prctl', option, value, 0, 0, 0)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f'{name}: {os.strerror(number)}')
