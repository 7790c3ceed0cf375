# SPDX-License-Identifier: Apache-2.0
"""libvirt-python, which a host of nova-api alone does not need."""

from __future__ import annotations

import sys
from typing import Any

from nova_snapshot_driver import exception

__all__ = ['libvirt', 'require']


class _Absent:
    """Stands in for libvirt-python, so that every module can be imported.

    Tables of constants have the names of these in place of their values.
    Nobody reads them: there is no connection without libvirt-python.
    """

    def __getattr__(self, name: str) -> Any:
        return name


try:
    import libvirt
except ImportError:
    libvirt = _Absent()


def require() -> None:
    """
    :raises LibvirtMissing: this Python has no libvirt-python
    """
    if isinstance(libvirt, _Absent):
        raise exception.LibvirtMissing(python=sys.executable)
