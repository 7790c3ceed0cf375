# SPDX-License-Identifier: Apache-2.0
"""Who calls libvirt's embedded driver.

A daemon knows it of each of its clients, and looks no secret up for nobody.
The embedded driver is told by nothing in the public interface.
"""

import ctypes
import ctypes.util

from tests.lab.errors import LabError


def assume() -> None:
    """Give this thread an identity, without which it has no secrets.

    :raises LabError: this libvirt has no such thing
    """
    libvirt = ctypes.CDLL(ctypes.util.find_library('virt'))
    try:
        make = libvirt.virIdentityNew
        set_current = libvirt.virIdentitySetCurrent
    except AttributeError as error:
        raise LabError(f'libvirt has changed: {error}') from error
    make.restype = ctypes.c_void_p
    set_current.argtypes = [ctypes.c_void_p]
    if set_current(make()) < 0:
        raise LabError('libvirt does not take an identity')
