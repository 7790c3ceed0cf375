# SPDX-License-Identifier: Apache-2.0
"""Unexpected errors, of which a user sees one line."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import fixtures
import testtools

PROGRAM = """\
import logging, sys, threading, warnings
from nova_snapshot_driver.cmd import main, status

def die():
    raise ValueError('in a thread')

def run(*_):
    warnings.warn('something is old')
    logging.getLogger('library').warning('nobody is interested')
    try:
        raise KeyError('in a library')
    except KeyError:
        logging.getLogger('library').exception('two\\nlines')
    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    raise ZeroDivisionError('by nobody')

status.run = run
sys.exit(main.main(['status', *sys.argv[1:]]))
"""


class GuardTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = root / 'nova.conf'
        self.config.touch()

    def run_it(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                *(sys.executable, '-c', PROGRAM),
                *('--config-file', str(self.config)),
                *arguments,
            ],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        self.assertEqual(1, done.returncode)
        return done

    def test_one_line_for_each(self) -> None:
        done = self.run_it()
        self.assertEqual('', done.stdout)
        library, thread, error, read = done.stderr.splitlines()
        self.assertEqual('ERROR two lines', library)
        self.assertEqual(
            'ERROR A thread has died: ValueError: in a thread', thread
        )
        self.assertRegex(error, '^Error: .*ZeroDivisionError: by nobody')
        self.assertIn('--verbose', error)
        self.assertEqual(f'Configuration: {self.config}', read)

    def test_json(self) -> None:
        done = self.run_it('--format', 'json')
        error = json.loads(done.stdout)['error']
        self.assertEqual('unexpected-error', error['code'])
        self.assertEqual(
            {'reason': 'ZeroDivisionError: by nobody'}, error['fields']
        )

    def test_verbose(self) -> None:
        done = self.run_it('--verbose')
        self.assertEqual(3, done.stderr.count('Traceback (most recent'))
        for line in ('in a library', 'in a thread', 'by nobody', 'is old'):
            self.assertIn(line, done.stderr)
