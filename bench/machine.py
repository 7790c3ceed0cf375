# SPDX-License-Identifier: Apache-2.0
"""The machine of a run."""

import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import libvirt

from lab.accelerator import domain_type
from lab.bounded import run
from lab.cloud.cloud import Cloud
from lab.directory import lab_directory
from lab.errors import LabError

_TIMEOUT = 60
_GIB = 1 << 30
_CINDER = """\
from importlib import metadata
print(metadata.version('cinder'))
"""
_ROOT = Path(__file__).resolve().parents[1]


def describe(cloud: Cloud) -> dict[str, str]:
    """Properties of this machine, and of what is installed on it."""
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return {
        'Date': f'{datetime.datetime.now(datetime.UTC):%Y-%m-%d}',
        'Commit': _commit(),
        'Processor': f'{_processor()}, {os.cpu_count()} cores',
        'Memory': f'{memory / _GIB:.0f} GiB',
        'Disk': _disk(),
        'System': platform.freedesktop_os_release()['PRETTY_NAME'],
        'Kernel': platform.release(),
        'Guests': {
            'kvm': 'accelerated by KVM',
            'qemu': 'emulated, without KVM',
        }[domain_type()],
        'QEMU': _version(['qemu-system-x86_64', '--version']),
        'libvirt': _libvirt(cloud),
        'Python': platform.python_version(),
        'Nova': f'{cloud.options.nova}, {cloud.options.concurrency}',
        'Glance': 'on the same disk, in one process, behind gunicorn',
        **(_storage(cloud) if cloud.options.has_ceph else {}),
    }


def _storage(cloud: Cloud) -> dict[str, str]:
    ceph = _version(['ceph', '--version'])
    return {
        'Cinder': _version([cloud.install.python, '-c', _CINDER]),
        'Ceph': f'{ceph}, one OSD in a file on the same disk',
    }


def _commit() -> str:
    try:
        return run(
            ['git', '-C', _ROOT, 'describe', '--always', '--dirty'],
            timeout=_TIMEOUT,
        ).strip()
    except LabError:
        return 'unknown'


def _processor() -> str:
    found = re.search(
        r'^model name\s*: (.*)$',
        Path('/proc/cpuinfo').read_text(),
        re.MULTILINE,
    )
    return found[1] if found else platform.machine()


def _disk() -> str:
    output = run(
        [
            *('df', '--output=source,fstype,size', '-BG'),
            lab_directory().resolve(),
        ],
        timeout=_TIMEOUT,
    )
    source, kind, size = output.splitlines()[-1].split()
    return f'{source}, {kind}, {size.removesuffix("G")} GiB'


def _version(argv: Sequence[str | Path]) -> str:
    output = run(argv, timeout=_TIMEOUT)
    found = re.search(r'\d+(\.\d+)+', output)
    return found[0] if found else output


def _libvirt(cloud: Cloud) -> str:
    connection = libvirt.open(cloud.libvirt_uri)
    try:
        number = connection.getLibVersion()
    finally:
        connection.close()
    return f'{number // 1000000}.{number // 1000 % 1000}.{number % 1000}'
