# SPDX-License-Identifier: Apache-2.0
"""OpenStack's services in one virtual environment."""

import dataclasses
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Self

from lab.bounded import locked
from lab.bounded import run
from lab.cloud.checkout import digest_of_checkout
from lab.cloud.checkout import install_checkout
from lab.cloud.databases import make_cinder_database
from lab.cloud.databases import make_databases
from lab.directory import cache_directory

#: The release that the driver is made for.
NOVA = '34.0.0'

_HERE = Path(__file__).parent
_CONSTRAINTS = _HERE / 'constraints.txt'
_PLUGIN = _HERE / 'sqlite_immediate'

_SERVICES = ('glance', 'keystone', 'openstack-placement')
_TOOLS = (
    'eventlet',
    'gunicorn',
    'libvirt-python',
    'python-openstackclient',
    # the requirements for building the wheel of this checkout
    'pbr',
    'setuptools',
)
# The requirements of this checkout's package, beyond those of Nova.
_REQUIREMENTS = _HERE.parents[1] / 'requirements.txt'
# Nova's own tests run in this environment too.
_NOVA_TESTS = (
    'ddt',
    'fixtures',
    'oslotest',
    'python-subunit',
    'requests-mock',
    'stestr',
    'testresources',
    'testscenarios',
    'testtools',
    'wsgi-intercept',
)

_INSTALL_TIMEOUT = 1800
_VENV_TIMEOUT = 120


@dataclasses.dataclass(frozen=True)
class CloudInstall:
    """The installed services, in the cache, with empty databases."""

    directory: Path
    nova: str

    @classmethod
    def find(cls, nova: str = NOVA) -> Self:
        """Return where the installation is, or will be.

        :param nova: the version of Nova
        """
        digest = hashlib.sha256(f'{sys.version} {nova}'.encode())
        for source in (
            _CONSTRAINTS,
            _REQUIREMENTS,
            *sorted(_PLUGIN.glob('*.*')),
            _HERE / 'databases.py',
            Path(__file__),
        ):
            digest.update(source.read_bytes())
        key = digest.hexdigest()[:16]
        return cls(cache_directory() / f'cloud-{key}', nova)

    @classmethod
    def ensure(cls, nova: str = NOVA, *, cinder: bool = False) -> Self:
        """Return the installation, made if it is missing or incomplete.

        It holds a wheel of this checkout as it is now. Any number of
        processes may call it at once.

        :param cinder: whether it has to have Cinder too
        :raises LabError: pip or a database migration failed
        """
        install = cls.find(nova)
        with locked(install.directory.with_suffix('.lock'), _INSTALL_TIMEOUT):
            if not install.complete:
                install._make()
            if cinder and not install.has_cinder:
                install._add_cinder()
            install._install_checkout()
        return install

    @property
    def python(self) -> Path:
        return self.programs / 'python'

    @property
    def programs(self) -> Path:
        """The directory of the programs, such as ``openstack``."""
        return self.directory / 'bin'

    @property
    def etc(self) -> Path:
        """The configuration files that the services come with."""
        return self.directory / 'etc'

    @property
    def databases(self) -> Path:
        """The databases without content: copy them."""
        return self.directory / 'databases'

    @property
    def checkout(self) -> str:
        """The digest of the installed checkout."""
        return self._digest.read_text() if self._digest.exists() else ''

    @property
    def complete(self) -> bool:
        return self._stamp.exists()

    @property
    def has_cinder(self) -> bool:
        return self.complete and self._cinder_stamp.exists()

    @property
    def _stamp(self) -> Path:
        return self.directory / 'complete'

    @property
    def _cinder_stamp(self) -> Path:
        return self.directory / 'complete-cinder'

    @property
    def _digest(self) -> Path:
        return self.directory / 'checkout'

    def _make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        run(
            [sys.executable, '-m', 'venv', self.directory],
            timeout=_VENV_TIMEOUT,
        )
        with tempfile.TemporaryDirectory() as name:
            # pip builds in the source.
            plugin = shutil.copytree(_PLUGIN, Path(name, 'plugin'))
            self._pip_install(
                *('-r', _REQUIREMENTS),
                *('nova', *_SERVICES, *_TOOLS, *_NOVA_TESTS, plugin),
            )
        make_databases(self.programs, self.databases)
        self._stamp.touch()

    def _add_cinder(self) -> None:
        """Add the few packages that Cinder has beyond those of the others."""
        self._pip_install('cinder')
        make_cinder_database(self.programs, self.databases)
        self._cinder_stamp.touch()

    def _pip_install(self, *arguments: str | Path) -> None:
        with tempfile.TemporaryDirectory() as name:
            constraints = Path(name, 'constraints.txt')
            constraints.write_text(self._constraints())
            run(
                [
                    *(self.python, '-m', 'pip', 'install', '-q', '--no-input'),
                    # pip's cache is outside of the lab's directory.
                    *('--no-cache-dir', '--disable-pip-version-check'),
                    *('-c', constraints, *arguments),
                ],
                timeout=_INSTALL_TIMEOUT,
            )

    def _constraints(self) -> str:
        """The tested set, with another Nova if that is asked for."""
        return ''.join(
            f'nova=={self.nova}\n' if line.startswith('nova==') else line
            for line in _CONSTRAINTS.read_text().splitlines(keepends=True)
        )

    def _install_checkout(self) -> None:
        digest = digest_of_checkout()
        if self.checkout != digest:
            self._digest.unlink(missing_ok=True)
            install_checkout(self.python)
            self._digest.write_text(digest)
