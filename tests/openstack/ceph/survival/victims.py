# SPDX-License-Identifier: Apache-2.0
"""The victims, which are killed as by ``kill -9``."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from lab.cloud.cloud import Cloud
from tests.processes import DATA_PLANE
from tests.processes import WATCHDOG
from tests.processes import children

#: Kills somebody.
#: Its arguments are the cloud and the name of the domain; it returns whether
#: there was anybody.
Kill = Callable[[Cloud, str], bool]


def processes(cloud: Cloud) -> list[int]:
    """The processes that the driver of a cloud has started, orphans included.

    Tests that need no cloud have the driver in another Python.
    """
    found = []
    for entry in Path('/proc').glob('[0-9]*/cmdline'):
        with contextlib.suppress(OSError):
            arguments = entry.read_bytes().decode(errors='replace').split('\0')
            if str(cloud.install.python) in arguments and any(
                module in arguments for module in (DATA_PLANE, WATCHDOG)
            ):
                found.append(int(entry.parent.name))
    return found


def _service(name: str) -> Kill:
    def kill(cloud: Cloud, _domain: str) -> bool:
        cloud.services[name].kill()
        return True

    return kill


def _kill_data_plane(cloud: Cloud, _domain: str) -> bool:
    return _kill_all(children(cloud.compute.pid, DATA_PLANE))


def _kill_guest(cloud: Cloud, domain: str) -> bool:
    return cloud.libvirtd.kill_guest(domain)


def _cut_power(cloud: Cloud, domain: str) -> bool:
    """All that belongs to a snapshot dies at one moment, but the disks."""
    cloud.compute.kill()
    _kill_all(processes(cloud))
    had_guest = cloud.libvirtd.kill_guest(domain)
    cloud.libvirtd.cut_off()
    for name in ('glance', 'cinder-api', 'cinder-scheduler', 'cinder-volume'):
        cloud.services[name].kill()
    return had_guest


def _kill_all(pids: list[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


GUEST = 'QEMU'
POWER = 'all at once'

VICTIMS: dict[str, Kill] = {
    'nova-compute': _service('nova-compute'),
    'data plane': _kill_data_plane,
    'libvirtd': _service('libvirtd'),
    GUEST: _kill_guest,
    'glance-api': _service('glance'),
    'cinder-volume': _service('cinder-volume'),
    POWER: _cut_power,
}


def revive(cloud: Cloud) -> None:
    """Start whatever does not run, in an order that they bear."""
    services = cloud.services
    cloud.libvirtd.start()
    for name in (
        'glance',
        'cinder-api',
        'cinder-scheduler',
        'cinder-volume',
        'nova-compute',
    ):
        services[name].start()
