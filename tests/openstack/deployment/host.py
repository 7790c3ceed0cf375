# SPDX-License-Identifier: Apache-2.0
"""A host of a stock Nova: its configuration, and a shell."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.bounded import run
from lab.cloud.checkout import build_wheel
from lab.cloud.cloud import Cloud
from tests.openstack.deployment.ini_file import IniFile
from tests.openstack.deployment.report import Report

COMMAND_TIMEOUT = 120

# No process outside of its mount namespace sees the units.
_WITH_UNITS = """\
set -e
mount --make-rprivate /
mount --bind "$1" /etc/systemd/system; shift
exec "$@"
"""


@functools.cache
def _built(python: Path) -> Path:
    """A directory with a wheel of the checkout, until the process ends."""
    directory = tempfile.TemporaryDirectory(prefix='wheel.')
    atexit.register(directory.cleanup)
    build_wheel(python, Path(directory.name))
    return Path(directory.name)


class Host:
    """The host of nova-api and nova-compute, as its administrator has it.

    :param home: an empty directory, of the administrator; ``dist`` in it has
        the wheel
    :param etc: the configuration of Nova; by default what its services read
    """

    def __init__(
        self, cloud: Cloud, home: Path, etc: Path | None = None
    ) -> None:
        self.cloud = cloud
        self.home = home
        self.etc = etc or cloud.directory / 'etc/nova'
        self.units = home / 'systemd'
        self.units.mkdir()
        # Nova's programs look for their configuration there, too.
        (home / '.nova').symlink_to(self.etc)
        (home / 'dist').symlink_to(_built(cloud.install.python))
        self._environment = {
            'HOME': str(home),
            # A checkout on it would hide what is installed.
            'PYTHONPATH': '',
            'PATH': f'{cloud.install.programs}:{os.environ["PATH"]}',
            # The wheel is what PyPI is to have: nothing is downloaded.
            'PIP_NO_INDEX': '1',
            'PIP_FIND_LINKS': str(home / 'dist'),
            'PIP_DISABLE_PIP_VERSION_CHECK': '1',
            'PIP_YES': '1',
        }

    def with_copy(self, home: Path) -> Host:
        """A host with a copy of the configuration, which no service reads."""
        etc = shutil.copytree(self.etc, home / 'etc')
        host = Host(self.cloud, home, etc)
        host.put('wsgi', 'api_paste_config', str(etc / 'api-paste.ini'))
        return host

    # Files

    @property
    def nova_conf(self) -> IniFile:
        return IniFile(self.etc / 'nova.conf')

    @property
    def api_paste(self) -> IniFile:
        return IniFile(self.etc / 'api-paste.ini')

    @property
    def unit(self) -> Path:
        """The file that ``systemctl edit nova-compute`` writes."""
        return self.units / 'nova-compute.service.d/override.conf'

    @property
    def apparmor(self) -> Path:
        """The rules of AppArmor for QEMU."""
        return self.home / 'apparmor.d/local/abstractions/libvirt-qemu'

    def put(self, section: str, option: str, value: str | None) -> None:
        """Write an option into the file that is to have it.

        :param value: None: it is taken out
        """
        is_paste = section.startswith('app:')
        file = self.api_paste if is_paste else self.nova_conf
        if value is None:
            file.remove(section, option)
        else:
            file.set(section, option, value)

    # The shell

    def shell(self, line: str) -> str:
        """Run a command as it was printed, and return what it wrote.

        :raises LabError: it has failed
        """
        return self.run(
            ['sh', '-c', line],
            OS_CLIENT_CONFIG_FILE=f'{self.cloud.directory}/clouds.yaml',
            OS_CLOUD='admin',
        )

    def run(
        self,
        argv: Sequence[str],
        accept: Sequence[int] = (0,),
        **environment: str,
    ) -> str:
        """Run a program, and return what it wrote.

        :param accept: the exit statuses that mean success
        :raises LabError: it has failed
        """
        return run(
            self._with_units(argv),
            timeout=COMMAND_TIMEOUT,
            directory=self.home,
            environment=self._environment | environment,
            accept=accept,
        )

    def check(self, *arguments: str, program: str = 'nova-snapshot') -> Report:
        """Run ``nova-snapshot check``.

        :param program: another ``nova-snapshot`` than Nova's
        """
        ended = subprocess.run(
            self._with_units(
                [program, 'check', '--format', 'json', *arguments]
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.home,
            env=os.environ | self._environment,
            timeout=COMMAND_TIMEOUT,
            text=True,
            check=False,
        )
        return Report.of(ended.returncode, ended.stdout, ended.stderr)

    def _with_units(self, argv: Sequence[str]) -> list[str]:
        """A command that sees these units as those of the machine."""
        return [
            *('unshare', '--mount', 'sh', '-c', _WITH_UNITS, 'sh'),
            *(str(self.units), *argv),
        ]
