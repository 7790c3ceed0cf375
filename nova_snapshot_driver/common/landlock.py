# SPDX-License-Identifier: Apache-2.0
"""Landlock: confines a process to some files of the host.

Linux has it since 5.13, where it is among the active security modules. Files
that are open already stay accessible.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

_VERSION = 1 << 0
_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_FILE = 1 << 5
_MAKE_REG = 1 << 8
_MAKE_SOCK = 1 << 9
#: Truncation, since version 3.
_TRUNCATE = 1 << 14

#: The rights of version 1 that change something: writing, removing, creating.
_CHANGES = 0x1FFF & ~(_EXECUTE | _READ_FILE | _READ_DIR)

_READING = _EXECUTE | _READ_FILE | _READ_DIR
_WRITING = _READING | _WRITE_FILE | _TRUNCATE
_MAKING = _WRITING | _REMOVE_FILE | _MAKE_REG | _MAKE_SOCK

#: The rights that apply to a file.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

#: Binding a TCP socket, since version 4.
_BIND_TCP = 1 << 0

#: Signals and abstract Unix sockets to the outside, since version 6.
_SCOPES = 3


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ('files', ctypes.c_uint64),
        ('network', ctypes.c_uint64),
        ('scopes', ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (('allowed', ctypes.c_uint64), ('parent', ctypes.c_int32))


#: The size of the structure by the version of the kernel.
_SIZES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version that the kernel knows; 0 where it knows none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION)))


def restrict(readable: Iterable[str] | None, writable: Iterable[str]) -> bool:
    """Restrict this thread, and what it starts, to some files.

    :param readable: files and directories; None for all
    :param writable: files and directories; in a directory files may also be
        created and removed
    :returns: whether the kernel has Landlock
    :raises OSError: the kernel refuses the restriction
    """
    known = version()
    if not known:
        return False
    handled = _CHANGES
    if known >= 3:
        handled |= _TRUNCATE
    if readable is not None:
        handled |= _READING
    attributes = _Ruleset(
        handled,
        _BIND_TCP if known >= 4 else 0,
        _SCOPES if known >= 6 else 0,
    )
    ruleset = _call(
        _CREATE_RULESET,
        ctypes.byref(attributes),
        ctypes.c_size_t(_SIZES.get(known, ctypes.sizeof(attributes))),
        0,
    )
    try:
        for path in readable or ():
            _allow(ruleset, path, handled & _READING)
        for path in writable:
            _allow(ruleset, path, handled & _MAKING)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # A path that can't be opened needs no permission.
        return
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            access &= _OF_FILES
        _call(
            _ADD_RULE,
            ruleset,
            _PATH_BENEATH,
            ctypes.byref(_PathBeneath(access, parent)),
            0,
        )
    finally:
        os.close(parent)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f'Landlock: {os.strerror(error)}')
    return result
