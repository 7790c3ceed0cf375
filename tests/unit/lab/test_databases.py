# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from pathlib import Path

import testtools

from lab.cloud.databases import copy_databases


class CopyTest(testtools.TestCase):
    def test_what_is_there_stays_as_it_is(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            templates = Path(name, 'templates')
            templates.mkdir()
            for database in ('nova', 'cinder'):
                (templates / f'{database}.sqlite').write_text('new')
            directory = Path(name, 'databases')
            directory.mkdir()
            (directory / 'nova.sqlite').write_text('used')
            copy_databases(templates, directory)
            self.assertEqual(
                ['new', 'used'],
                [path.read_text() for path in sorted(directory.iterdir())],
            )
