# SPDX-License-Identifier: Apache-2.0
"""Ceph's bindings, which the distribution has and no registry of Python."""

import sysconfig
from pathlib import Path

from lab.errors import LabError

# The modules that the services' environment can import; with all of the
# directory, others would hide what was installed there.
_MODULES = ('rados', 'rbd')
_PACKAGES = Path('/usr/lib/python3/dist-packages')


def link_bindings(directory: Path) -> None:
    """Create a directory for ``PYTHONPATH`` with the bindings alone.

    :raises LabError: they are not installed, or not for this interpreter
    """
    directory.mkdir(parents=True, exist_ok=True)
    suffix = sysconfig.get_config_var('EXT_SUFFIX')
    for name in _MODULES:
        module = _PACKAGES / f'{name}{suffix}'
        if not module.exists():
            raise LabError(
                f'{module} is missing: Ceph needs python3-{name} and the '
                "distribution's own Python, tools/setup.sh lab cloud ceph"
            )
        link = directory / module.name
        if not link.is_symlink():
            link.symlink_to(module)
