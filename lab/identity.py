# SPDX-License-Identifier: Apache-2.0
"""The identity of the caller of libvirt's embedded driver.

A daemon knows the identity of each client, and looks up no secret for a client
without one. The embedded driver takes the identity of the thread and its
connection to the driver of secrets, for which there is no public interface.
"""

import ctypes
import ctypes.util
import sys
import threading
from types import FrameType
from typing import Any

import libvirt

from lab.errors import LabError


def assume() -> None:
    """Give this thread an identity, without which it has no secrets.

    :raises LabError: this libvirt has no such thing
    """
    library = _library()
    library.virIdentityNew.restype = ctypes.c_void_p
    library.virIdentitySetCurrent.argtypes = [ctypes.c_void_p]
    if library.virIdentitySetCurrent(library.virIdentityNew()) < 0:
        raise LabError('libvirt does not take an identity')


def bequeath(secrets: libvirt.virConnect) -> None:
    """Give an identity to each thread that is started from now on.

    The driver makes its calls of libvirt on threads of their own.

    :param secrets: the connection to the driver of secrets, which this thread
        has by having opened it
    """
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    connection = pointer(secrets._o, b'virConnectPtr')
    library = _library()
    library.virSetConnectSecret.argtypes = [ctypes.c_void_p]

    def inherit(_frame: FrameType, _event: str, _argument: Any) -> None:
        sys.setprofile(None)
        assume()
        library.virSetConnectSecret(connection)

    # A profile function is the only hook of Python in a new thread.
    threading.setprofile(inherit)


def _library() -> Any:
    library = ctypes.CDLL(ctypes.util.find_library('virt'))
    for name in (
        'virIdentityNew',
        'virIdentitySetCurrent',
        'virSetConnectSecret',
    ):
        if not hasattr(library, name):
            raise LabError(f'libvirt has changed: it has no {name}')
    return library
