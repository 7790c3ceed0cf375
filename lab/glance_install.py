# SPDX-License-Identifier: Apache-2.0
"""Glance in a virtual environment of its own."""

import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Self

from lab.bounded import locked
from lab.bounded import run
from lab.directory import cache_directory

_CONSTRAINTS = Path(__file__).with_name('glance-constraints.txt')

_INSTALL_TIMEOUT = 1200
_VENV_TIMEOUT = 120
_DATABASE_TIMEOUT = 300


@dataclasses.dataclass(frozen=True)
class GlanceInstall:
    """An installed Glance, in the cache, with an empty database."""

    directory: Path

    @classmethod
    def find(cls) -> Self:
        """Return where the installation of the tested set is, or will be."""
        digest = hashlib.sha256(_CONSTRAINTS.read_bytes())
        digest.update(Path(__file__).read_bytes())
        digest.update(sys.version.encode())
        key = digest.hexdigest()[:16]
        return cls(cache_directory() / f'glance-{key}')

    @classmethod
    def ensure(cls) -> Self:
        """Return the installation, made if it is missing or incomplete.

        Any number of processes may call it at once.

        :raises LabError: pip or Glance's database migration failed
        """
        install = cls.find()
        with locked(install.directory.with_suffix('.lock'), _INSTALL_TIMEOUT):
            if not install.complete:
                install._make()
        return install

    @property
    def python(self) -> Path:
        return self.directory / 'bin' / 'python'

    @property
    def paste_configuration(self) -> Path:
        return self.directory / 'etc' / 'glance' / 'glance-api-paste.ini'

    @property
    def database(self) -> Path:
        """A database with the schema and no image: copy it."""
        return self.directory / 'glance.sqlite'

    @property
    def complete(self) -> bool:
        return self.database.exists()

    def _make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        run(
            [sys.executable, '-m', 'venv', self.directory],
            timeout=_VENV_TIMEOUT,
        )
        run(
            [
                *(self.python, '-m', 'pip', 'install', '-q', '--no-input'),
                # pip's cache is outside of the lab's directory.
                *('--no-cache-dir', '--disable-pip-version-check'),
                *('-c', _CONSTRAINTS, 'glance', 'gunicorn'),
            ],
            timeout=_INSTALL_TIMEOUT,
        )
        # The last step: the database says that the rest is complete.
        new = self.directory / 'new.sqlite'
        configuration = self.directory / 'db-sync.conf'
        configuration.write_text(f'[database]\nconnection = sqlite:///{new}\n')
        run(
            [
                *(self.python, '-m', 'glance.cmd.manage'),
                *('--config-file', configuration, 'db_sync'),
            ],
            timeout=_DATABASE_TIMEOUT,
        )
        new.rename(self.database)
