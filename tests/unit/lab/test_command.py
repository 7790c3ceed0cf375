# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import ddt
import fixtures
import testtools

from lab.cloud import command
from lab.cloud.cloud import Cloud
from lab.cloud.install import CloudInstall
from lab.cloud.options import DRIVER_API
from lab.cloud.options import STOCK_API
from lab.cloud.options import STOCK_DRIVER
from lab.cloud.options import CloudOptions
from lab.cloud.options import Storage
from tests.unit import tables

ROOT = Path(__file__).parents[3]


class _Cloud(Cloud):
    """A cloud that was never started."""

    @property
    def install(self) -> CloudInstall:
        return CloudInstall.find(CloudOptions().nova)


def usage(**options: Any) -> str:
    return command.usage(_Cloud(Path('/lab/cloud')), CloudOptions(**options))


class UsageTest(testtools.TestCase):
    def test_without_ceph_there_is_no_volume(self) -> None:
        text = usage()
        for line in command.COMMANDS:
            self.assertIn(f'\n  {line}\n', text)
        self.assertNotIn('volume', text)

    def test_with_ceph_a_server_boots_from_a_volume(self) -> None:
        text = usage(storage=Storage.CEPH)
        for line in (*command.COMMANDS, *command.VOLUME_COMMANDS):
            self.assertIn(f'\n  {line}\n', text)
        self.assertIn('Cinder by their host', text)

    def test_nova_api_is_named(self) -> None:
        self.assertIn(f'nova-api      {DRIVER_API}\n', usage())
        text = usage(storage=Storage.CEPH, app_factory=STOCK_API)
        self.assertIn(f'nova-api      {STOCK_API}\n', text)
        self.assertIn('by nova-api itself', text)

    def test_documents_show_the_same(self) -> None:
        for path in (
            'README.rst',
            'doc/source/install/first-five-minutes.rst',
        ):
            text = ' '.join(
                (ROOT / path).read_text().replace('\\', '').split()
            )
            for verb in ('server create', 'server image create'):
                for line in command.VOLUME_COMMANDS:
                    if line.startswith(f'openstack {verb}'):
                        self.assertIn(line, text)


@ddt.ddt
class UpTest(testtools.TestCase):
    """The nova-api of a new cloud."""

    @tables.rows(
        {
            'by_default': ((), DRIVER_API),
            'with_ceph': (('--storage', 'ceph'), DRIVER_API),
            'stock': (('--storage', 'ceph', '--stock-api'), STOCK_API),
        }
    )
    def test_api(self, arguments: tuple[str, ...], factory: str) -> None:
        self.assertEqual(factory, self.asked_for(*arguments).app_factory)

    def test_stock(self) -> None:
        """Nova's own driver is in a Nova without this one."""
        options = self.asked_for('--driver', STOCK_DRIVER)
        self.assertTrue(options.stock)
        self.assertFalse(self.asked_for().stock)

    def asked_for(self, *arguments: str) -> CloudOptions:
        asked: list[CloudOptions] = []
        for name in ('ensure', 'discard'):
            self.useFixture(
                fixtures.MockPatchObject(
                    Cloud, name, lambda _cloud, options: asked.append(options)
                )
            )
        self.useFixture(
            fixtures.MockPatchObject(Cloud, 'install', _Cloud.install)
        )
        parser = argparse.ArgumentParser()

        def add_verb(
            verbs: Any, name: str, action: Any, text: str
        ) -> argparse.ArgumentParser:
            verb: argparse.ArgumentParser = verbs.add_parser(name, help=text)
            verb.set_defaults(action=action)
            return verb

        command.add_cloud(parser.add_subparsers(), add_verb)
        parsed = parser.parse_args(['cloud', 'up', *arguments])
        with contextlib.redirect_stdout(io.StringIO()):
            parsed.action(parsed)
        [options] = asked
        return options


@ddt.ddt
class MakeTest(testtools.TestCase):
    """The arguments of ``make cloud``."""

    @tables.rows(
        {
            'ceph': (('STORAGE=ceph',), '--storage ceph'),
            'stock': (
                ('STORAGE=ceph', 'API=stock'),
                '--storage ceph --stock-api',
            ),
        }
    )
    def test_options(self, variables: tuple[str, ...], options: str) -> None:
        made = subprocess.check_output(
            ['make', '--dry-run', 'cloud', *variables],
            cwd=ROOT,
            # The tests may be run by make, which hands on its own options.
            env={'PATH': os.environ['PATH']},
            text=True,
            timeout=60,
        )
        self.assertIn('cloud up', made)
        self.assertTrue(made.strip().endswith(options), made)
