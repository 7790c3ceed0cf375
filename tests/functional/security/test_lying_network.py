# SPDX-License-Identifier: Apache-2.0
"""A server in the place of Glance lies to the process that sends an image.

It is the data plane as the driver starts it, with its memory and its end.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import ddt
import fixtures
from oslotest import base

from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests.unit import tables
from tests.unit.lying_server import LyingServer
from tests.unit.lying_server import redirection

TOKEN = 't0ken-of-the-user'

IMAGE = '4b3b6c1e-1d5b-4d0f-a8a3-3d8e5d1a3f10'

#: Seconds of silence after which Glance is given up.
SILENCE = 2

#: Seconds after which the process is ended by the test.
LONGEST = 120

#: The memory that a data plane may take, in KiB.
MEMORY = 150 << 10

#: Runs a command, and says at the end how much memory it took, in KiB. Linux
#: counts into the peak of a process what its parent had when it started the
#: process: the parent of what is measured has to be small.
METER = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({'status': status, 'memory': memory}))
"""

HEAD = b'HTTP/1.1 200 OK\r\nConnection: close\r\n'

#: Blocks that never end.
ENDLESS = itertools.repeat(b'A' * 65536)

LIES: dict[str, Callable[[], Iterator[bytes]]] = {
    'error': lambda: itertools.chain(
        [b'HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n'], ENDLESS
    ),
    'record': lambda: itertools.chain([HEAD, b'\r\n{"id": "'], ENDLESS),
    'headers': lambda: itertools.chain(
        [HEAD],
        (b'X-%d: %s\r\n' % (n, b'A' * 60000) for n in itertools.count()),
    ),
}


@ddt.ddt
class LyingGlanceTest(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.glance = self.useFixture(LyingServer())
        self.image = f'{self.useFixture(fixtures.TempDir()).path}/image'
        with open(self.image, 'wb') as file:
            file.write(b'image')

    def upload(self) -> tuple[dict[str, Any], int]:
        """Upload a small file.

        :returns: the error that the data plane ends with, and its memory in
            KiB
        """
        process = subprocess.Popen(
            [
                *(sys.executable, '-I', '-c', METER),
                *(sys.executable, '-P', '-m', 'nova_snapshot_driver.transfer'),
                'upload',
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, 'NO_PROXY': '*'},
            start_new_session=True,
        )
        assert process.stdin and process.stdout
        self.addCleanup(process.wait)
        end = threading.Timer(
            LONGEST, os.killpg, (process.pid, signal.SIGKILL)
        )
        end.start()
        self.addCleanup(end.cancel)
        message = {
            'job': Upload(self.image, IMAGE, (), retries=0).to_dict(),
            'bounds': dataclasses.asdict(Bounds()),
        }
        access = {'endpoint': self.glance.url, 'token': TOKEN}
        with process.stdin as questions, process.stdout as answers:
            self._tell(questions, message)
            error: dict[str, Any] = {}
            memory = 0
            for line in answers:
                said = json.loads(line)
                error = said.get('error', error)
                memory = said.get('memory', memory)
                if 'ask' in said:
                    answer = {**access, 'timeout': SILENCE}
                    self._tell(questions, {'answer': answer})
        self.assertNotIn(TOKEN, json.dumps(error))
        return error, memory

    @staticmethod
    def _tell(file: Any, message: dict[str, Any]) -> None:
        file.write(json.dumps(message).encode() + b'\n')
        file.flush()

    @tables.rows({name: (lie,) for name, lie in LIES.items()})
    def test_answer_without_an_end(
        self, lie: Callable[[], Iterator[bytes]]
    ) -> None:
        self.glance.answer = lambda _method, _path: lie()
        error, memory = self.upload()
        self.assertEqual('glance-error', error['code'])
        self.assertIn('bytes', error['message'])
        self.assertGreater(memory, 0)
        self.assertLess(memory, MEMORY)
        self.assertFalse(self.glance.given_up.is_set())

    def test_answer_that_drips(self) -> None:
        self.glance.pause = SILENCE / 4
        self.glance.answer = lambda _method, _path: itertools.chain(
            [HEAD, b'Content-Length: 100000\r\n\r\n'], itertools.repeat(b' ')
        )
        error, _memory = self.upload()
        self.assertEqual('upload-failed', error['code'])
        self.assertFalse(self.glance.given_up.is_set())

    @tables.rows(
        {
            f'{method.lower()}_{status}': (method, status)
            for method in ('GET', 'PUT')
            for status in (301, 302, 303, 307, 308)
        }
    )
    def test_other_origin_gets_nothing(self, method: str, status: int) -> None:
        other = self.useFixture(LyingServer())
        self.glance.answer = lambda asked, path: iter(
            [
                redirection(status, other.url + path)
                if asked == method
                else HEAD + b'Content-Length: 0\r\n\r\n'
            ]
        )
        error, _memory = self.upload()
        self.assertEqual('glance-error', error['code'])
        self.assertIn(other.url, error['message'])
        self.assertEqual([], other.requests)
