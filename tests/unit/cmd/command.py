# SPDX-License-Identifier: Apache-2.0
"""The command line on a host that is not there."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import fixtures

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd import main
from nova_snapshot_driver.hypervisor.host import Host
from tests.unit.fake_glance import ENDPOINT
from tests.unit.host import DEVICES
from tests.unit.host import FakeHost


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a command."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


class NoCloud(fixtures.Fixture):
    """Nothing around this process names a cloud."""

    def _setUp(self) -> None:
        root = self.useFixture(fixtures.TempDir()).path
        for name in os.environ:
            if name.startswith('OS_'):
                self.useFixture(fixtures.EnvironmentVariable(name))
        #: Where ``clouds.yaml`` is looked for.
        self.clouds = os.path.join(root, 'clouds.yaml')
        for name in ('CONFIG', 'SECURE', 'VENDOR'):
            path = (
                self.clouds if name == 'CONFIG' else os.path.join(root, name)
            )
            self.useFixture(
                fixtures.EnvironmentVariable(f'OS_CLIENT_{name}_FILE', path)
            )


class CommandLine(fixtures.Fixture):
    """``nova-snapshot``, on a :class:`FakeHost`.

    :ivar host: the host, as far as it is not configured by arguments
    :ivar uris: what was connected to
    """

    def __init__(
        self, devices: str = DEVICES, host: FakeHost | None = None
    ) -> None:
        super().__init__()
        self._host = host or FakeHost(devices)

    def _setUp(self) -> None:
        self.host = self.useFixture(self._host)
        self.clouds = self.useFixture(NoCloud()).clouds
        self.config = self.host.root / 'nova.conf'
        self.config.write_text('')
        self.uris: list[str] = []
        self.no_libvirt = False
        self.useFixture(fixtures.MockPatchObject(Host, 'open', self._open))

    @contextlib.contextmanager
    def _open(self, uri: str) -> Iterator[Host]:
        self.uris.append(uri)
        if self.no_libvirt:
            raise exception.ConnectionFailed(uri=uri, reason='no socket')
        yield Host(self.host.connection)

    def run(self, *arguments: str) -> Result:
        """Run a command with the directories of the host."""
        output, errors = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            status = main.main(
                [
                    *arguments,
                    *('--config-file', str(self.config)),
                    *(
                        '--snapshots-directory',
                        self.host.directories.snapshots,
                    ),
                    *('--state-directory', self.host.directories.state),
                ]
            )
        return Result(status, output.getvalue(), errors.getvalue())

    def to_glance(self, *arguments: str) -> Result:
        return self.run(*arguments, '--glance-url', ENDPOINT)
