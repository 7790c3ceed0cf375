# SPDX-License-Identifier: Apache-2.0
"""A checkout that is installed as it is, for those who work on it."""

from __future__ import annotations

import pathlib
import site
import sys

import fixtures
import testtools

from lab.bounded import run
from lab.cloud.checkout import build_environment
from lab.cloud.checkout import copy_checkout
from tests.nova.host import COMPUTE_DRIVER

TIMEOUT = 120

#: As ``nova.virt.driver.load_compute_driver`` imports it.
LOAD = f"""\
import site, sys
site.addsitedir(sys.argv[1])
from oslo_utils import importutils
driver = importutils.import_class('nova.virt.{COMPUTE_DRIVER}')
print(sys.modules[driver.__module__].__file__)
"""


class EditableTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.checkout = root / 'checkout'
        self.site = root / 'site'
        copy_checkout(self.checkout)
        [packages] = map(pathlib.Path, site.getsitepackages()[:1])
        # All that is there but the wheel of this checkout.
        _link(packages, self.site, 'nova')
        _link(packages / 'nova', self.site / 'nova', 'virt')
        _link(packages / 'nova/virt', self.site / 'nova/virt')

    def load(self) -> str:
        return run(
            [sys.executable, '-I', '-S', '-c', LOAD, self.site],
            environment={'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'true'},
            timeout=TIMEOUT,
            accept=(0, 1),
        )

    def test_nova_finds_it(self) -> None:
        self.assertIn('ModuleNotFoundError', self.load())
        run(
            [
                *(sys.executable, '-m', 'pip', 'install', '-q', '--no-input'),
                *('--no-deps', '--no-build-isolation', '--no-index'),
                '--disable-pip-version-check',
                *('--target', self.site, '--editable', self.checkout),
            ],
            environment=build_environment(),
            timeout=TIMEOUT,
        )
        self.assertEqual(
            str(self.checkout / 'nova_snapshot_driver/nova/compute.py'),
            self.load().splitlines()[-1],
        )


def _link(packages: pathlib.Path, links: pathlib.Path, but: str = '') -> None:
    """Link to all that is in a directory.

    :param but: what is not linked to, beside the packages of this project
    """
    links.mkdir()
    for path in packages.iterdir():
        if path.name != but and 'snapshot_driver' not in path.name:
            (links / path.name).symlink_to(path)
