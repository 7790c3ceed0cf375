# SPDX-License-Identifier: Apache-2.0
"""Programs that stand for others."""

from __future__ import annotations

import pathlib

import fixtures


class Commands(fixtures.Fixture):
    """A directory of scripts, the only one in which a command is found."""

    def _setUp(self) -> None:
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (self.root / 'bin').mkdir()
        self.useFixture(
            fixtures.EnvironmentVariable('PATH', str(self.root / 'bin'))
        )

    def add(self, name: str, script: str) -> pathlib.Path:
        """Have a command; what it needs itself, it names by its path."""
        path = self.root / 'bin' / name
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        return path
