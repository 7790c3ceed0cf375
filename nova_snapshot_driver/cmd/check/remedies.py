# SPDX-License-Identifier: Apache-2.0
"""The commands that mend what nova-compute's Python lacks."""

from __future__ import annotations

import os
import shlex

import nova_snapshot_driver
from nova_snapshot_driver.cmd.check.interpreter import Interpreter
from nova_snapshot_driver.cmd.check.interpreter import Interview
from nova_snapshot_driver.common.version import PROJECT


class Remedies:
    """Advice for one interpreter, by what it has answered."""

    def __init__(self, interpreter: Interpreter, interview: Interview) -> None:
        self._interpreter = interpreter
        self._interview = interview

    def install_libvirt(self) -> str:
        return (
            'Install libvirt-python there: '
            f'{self.pip_install("libvirt-python")} (it is compiled, with '
            "libvirt's headers); for the distribution's own Python it is the "
            'package python3-libvirt.'
        )

    def install(self, *flags: str) -> str:
        return f'Install it there: {self.pip_install(*flags, _source())}'

    def install_again(self) -> str:
        """The advice to install all of it again, readable for Nova's user.

        The umask of root may be a strict one.
        """
        command = self.pip_install('--force-reinstall', '--no-deps', _source())
        return f'Install it again, for all to read: umask 022; {command}'

    def pip_install(self, *arguments: str) -> str:
        managed = (
            ['--break-system-packages']
            if self._interview.externally_managed
            else []
        )
        return self._interpreter.pip('install', *managed, *arguments)

    def afterwards(self, site: str) -> str:
        """The command that is needed if pip installs apart from Nova."""
        if os.path.realpath(os.path.join(site, 'nova')) == os.path.realpath(
            str(self._interview.nova)
        ):
            return ''
        return f', and let Nova see it: {self.link(site)}'

    def link(self, site: str) -> str:
        return shlex.join(
            ['ln', '-s', shipped(site), f'{self._interview.virt}/']
        )


def _source() -> str:
    """The argument for pip: the project that this command comes from."""
    site = os.path.dirname(os.path.dirname(nova_snapshot_driver.__file__))
    return site if is_checkout(site) else PROJECT


def shipped(site: str) -> str:
    """The package that Nova has to find, in a directory of packages."""
    return os.path.join(site, 'nova', 'virt', 'snapshot_driver')


def is_checkout(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, 'pyproject.toml'))
