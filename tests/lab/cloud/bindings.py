# SPDX-License-Identifier: Apache-2.0
"""Ceph's bindings, which the distribution has and no registry of Python."""

import sysconfig
from pathlib import Path

from tests.lab.errors import LabError

# What the virtual environment of the services can import of it: all that is
# there would hide what was installed into it.
_MODULES = ('rados', 'rbd')
_PACKAGES = Path('/usr/lib/python3/dist-packages')


def link_bindings(directory: Path) -> None:
    """Make a directory for ``PYTHONPATH`` that has them and nothing else.

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
