# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from pathlib import Path

import testtools

ROOT = Path(__file__).resolve().parents[2]


class PackagesTest(testtools.TestCase):
    def test_none_is_missing_from_a_wheel(self) -> None:
        """An editable install would not miss it."""
        settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())
        found = {
            '.'.join(file.parent.relative_to(ROOT).parts)
            for file in (ROOT / 'nova_snapshot_driver').rglob('__init__.py')
        }
        listed = set(settings['tool']['setuptools']['packages'])
        self.assertEqual(set(), found - listed)
