# SPDX-License-Identifier: Apache-2.0
"""The wheel: what an operator and a distributor get.

Where Nova is, there is what a wheel is built with, so nothing is downloaded.
"""

from __future__ import annotations

import email
import email.message
import pathlib
import sys
import tempfile
import zipfile
from typing import ClassVar

import testtools

from lab.cloud.checkout import build_wheel

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: The files below the prefix, beside the generated ones of share/.
SHARED = {
    f'share/nova-snapshot-driver/{name}'
    for name in (
        'grafana-dashboard.json',
        'nova-snapshot-driver.conf.sample',
        'prometheus-rules.yaml',
    )
}


class WheelTest(testtools.TestCase):
    names: ClassVar[set[str]]
    metadata: ClassVar[email.message.Message]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            path = build_wheel(pathlib.Path(sys.executable), root)
            with zipfile.ZipFile(path) as wheel:
                cls.names = set(wheel.namelist())
                [metadata] = (n for n in cls.names if n.endswith('/METADATA'))
                cls.metadata = email.message_from_bytes(wheel.read(metadata))

    def all_of(self, field: str) -> list[str]:
        return [str(each) for each in self.metadata.get_all(field, [])]

    def test_modules(self) -> None:
        self.assertEqual(
            _files('nova') | _files('nova_snapshot_driver'),
            {name for name in self.names if name.endswith('.py')},
        )

    def test_files_below_the_prefix(self) -> None:
        self.assertEqual(
            _files('share') | SHARED,
            {
                name.partition('.data/data/')[2]
                for name in self.names
                if '.data/data/' in name
            },
        )

    def test_requirements(self) -> None:
        """A library that is compiled, or Nova's, is an extra."""
        required = ' '.join(
            requirement
            for requirement in self.all_of('Requires-Dist')
            if 'extra ==' not in requirement
        )
        self.assertIn('rich>=', required)
        for optional in ('libvirt-python', 'nova>=', 'prometheus'):
            self.assertNotIn(optional, required)
        self.assertEqual(
            {'libvirt', 'metrics', 'nova'}, set(self.all_of('Provides-Extra'))
        )


def _files(folder: str) -> set[str]:
    """The files of the checkout that git would have."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
