# SPDX-License-Identifier: Apache-2.0
"""An environment that nova-compute could run in."""

from __future__ import annotations

import pathlib
import shutil
import sysconfig
import venv

import fixtures
import packaging

from nova_snapshot_driver.common import version as own

#: The module that Nova looks for, as this project has it.
DOOR = 'from nova_snapshot_driver.nova.compute import LibvirtSnapshotDriver\n'

COMPUTE = """\
from nova.virt import driver


class LibvirtSnapshotDriver(driver.ComputeDriver):
    def __init__(self, virtapi):
        raise AssertionError('nothing is to be started')
"""

# The driver would patch half of the standard library otherwise.
VIRT_DRIVER = """\
import os

assert os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] == '1'


class ComputeDriver:
    pass
"""


class NovaPrefix(fixtures.Fixture):
    """A virtual environment, in which there is nothing to begin with.

    :ivar python: its interpreter
    :ivar site: where its packages are
    """

    def __init__(self, name: str = 'venv') -> None:
        super().__init__()
        self._name = name

    def _setUp(self) -> None:
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.prefix = self.root / self._name
        venv.create(self.prefix, symlinks=True)
        self.bin = self.prefix / 'bin'
        self.python = str(self.bin / 'python')
        variables = {'base': str(self.prefix), 'platbase': str(self.prefix)}
        self.site = pathlib.Path(
            sysconfig.get_path('purelib', 'venv', variables)
        )

    def add_nova(
        self, version: str = '34.0.0', site: pathlib.Path | None = None
    ) -> None:
        """Install a Nova of a few lines."""
        site = site or self.site
        write(site / 'nova/__init__.py')
        write(site / 'nova/virt/__init__.py')
        write(site / 'nova/virt/driver.py', VIRT_DRIVER)
        self.add_packaging()
        write(self.site / 'libvirt.py')
        self.add_distribution('nova', version, ['nova/__init__.py'])

    def add_driver(
        self,
        site: pathlib.Path | None = None,
        door: str = DOOR,
        compute: str = COMPUTE,
        version: str | None = own.installed(),
        requires: tuple[str, ...] = (),
    ) -> None:
        """Install the driver, of a few lines too.

        :param version: None for a checkout, which has none
        """
        site = site or self.site
        write(site / 'nova/virt/snapshot_driver/__init__.py', door)
        write(site / 'nova_snapshot_driver/__init__.py')
        write(site / 'nova_snapshot_driver/nova/__init__.py')
        write(site / 'nova_snapshot_driver/nova/compute.py', compute)
        self.set_libnbd(site=site)
        if version:
            self.add_distribution(
                'nova-snapshot-driver', version, requires=requires
            )

    def set_libnbd(
        self,
        is_available: bool = True,
        other: str | None = None,
        site: pathlib.Path | None = None,
        load: str = 'pass',
    ) -> None:
        """Have the driver find libnbd, or another one, or none.

        :param load: what it does in order to load it
        """
        write(
            (site or self.site)
            / 'nova_snapshot_driver/transfer/nbd/libnbd.py',
            f'def is_available():\n    return {is_available}\n\n\n'
            f'def of_another_python():\n    return {other!r}\n\n\n'
            f'def load():\n    {load}\n',
        )

    def add_packaging(self) -> None:
        """Install the library that reads requirements, which Nova needs."""
        (self.site / 'packaging').symlink_to(
            pathlib.Path(packaging.__file__).parent
        )

    def add_distribution(
        self,
        name: str,
        version: str,
        files: list[str] | None = None,
        requires: tuple[str, ...] = (),
    ) -> None:
        """Have a project for installed."""
        metadata = self.site / f'{name.replace("-", "_")}-{version}.dist-info'
        write(
            metadata / 'METADATA',
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
            + ''.join(f'Requires-Dist: {each}\n' for each in requires),
        )
        write(
            metadata / 'RECORD', ''.join(f'{file},,\n' for file in files or [])
        )

    def set_version(self, name: str, version: str) -> None:
        """Have an installed project for one of another version."""
        self.remove_distribution(name)
        self.add_distribution(name, version)

    def remove_distribution(self, name: str) -> None:
        """Have a project for not installed, whose files stay."""
        for metadata in self.site.glob(
            f'{name.replace("-", "_")}-*.dist-info'
        ):
            shutil.rmtree(metadata)

    def add_path(self, directory: pathlib.Path) -> None:
        """Have modules found in another directory too."""
        write(self.site / 'more.pth', f'{directory}\n')

    def add_script(self, text: str | None = None) -> str:
        """Install a nova-compute, and return its path."""
        script = self.bin / 'nova-compute'
        write(script, text or f'#!{self.python}\nimport nova\n')
        script.chmod(0o755)
        return str(script)


def write(path: pathlib.Path, text: str = '') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
