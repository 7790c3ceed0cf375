# SPDX-License-Identifier: Apache-2.0
"""Packages of the distribution, downloaded and unpacked, never installed."""

import re
from collections.abc import Sequence
from pathlib import Path

from lab.bounded import run
from lab.errors import LabError

_METADATA_TIMEOUT = 60
_DOWNLOAD_TIMEOUT = 600
_UNPACK_TIMEOUT = 120

# The exit status of apt-cache.
_UNKNOWN_PACKAGE = 100

# The small kernels for virtual machines of Debian and of Ubuntu.
_KERNELS = ('linux-image-cloud-amd64', 'linux-image-virtual')


def kernel_packages() -> list[str]:
    """The packages of the newest kernel for virtual machines.

    :raises LabError: apt knows none
    """
    for name in _KERNELS:
        for image in _depends(name, r'linux-image-\d'):
            # Ubuntu packs the modules apart from the image.
            return [image, *_depends(image, 'linux-modules-')]
    raise LabError(
        f'apt knows none of {", ".join(_KERNELS)}: run apt-get update first'
    )


def unpack(names: Sequence[str], directory: Path) -> Path:
    """Download packages into *directory* and return the tree of their files.

    :raises LabError: apt can't find or fetch one of them
    """
    run(
        [
            # Where root runs it, apt would fetch as the account _apt, which
            # may not write here.
            *('apt-get', '-qq', '-o', 'APT::Sandbox::User=root'),
            *('download', *names),
        ],
        directory=directory,
        timeout=_DOWNLOAD_TIMEOUT,
    )
    tree = directory / 'tree'
    for package in directory.glob('*.deb'):
        run(['dpkg', '-x', package, tree], timeout=_UNPACK_TIMEOUT)
    return tree


def _depends(name: str, prefix: str) -> list[str]:
    """The dependencies of a package whose names match *prefix*."""
    output = run(
        ['apt-cache', 'depends', '--no-recommends', '--no-suggests', name],
        timeout=_METADATA_TIMEOUT,
        accept=(0, _UNKNOWN_PACKAGE),
    )
    return re.findall(rf'^\s*Depends: ({prefix}\S*)$', output, re.MULTILINE)
