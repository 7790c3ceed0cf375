# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import testtools

from bench import processes
from bench.content import MIB
from bench.processes import Usage

WRITE = """\
import sys, time
with open(sys.argv[1], 'wb') as file:
    file.write(bytes(8 << 20))
with open(sys.argv[1], 'rb') as file:
    file.read()
"""


class UsageTest(testtools.TestCase):
    def test_of_a_child_that_has_ended(self) -> None:
        # Not in /tmp: a write to a tmpfs is none to a disk.
        with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name:
            before = processes.usage(os.getpid())
            subprocess.run(
                [sys.executable, '-c', WRITE, Path(name, 'file')],
                check=True,
            )
            used = processes.usage(os.getpid()) - before
        self.assertGreaterEqual(used.written, 8 * MIB)
        self.assertLess(used.written, 9 * MIB)
        self.assertGreaterEqual(used.read, 8 * MIB)
        self.assertGreater(used.cpu, 0)

    def test_without_the_children(self) -> None:
        before = processes.own_usage(os.getpid())
        subprocess.run(
            [sys.executable, '-c', 'sum(range(10000000))'], check=True
        )
        used = processes.own_usage(os.getpid()) - before
        self.assertLess(used.cpu, 0.1)

    def test_of_none(self) -> None:
        # Larger than any process id.
        self.assertEqual(Usage(), processes.usage(1 << 23))


class FamilyTest(testtools.TestCase):
    def test_descendants(self) -> None:
        with subprocess.Popen(
            ['sh', '-c', 'sleep 60 & echo $!; wait'],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            sleeping = int(process.stdout.readline())
            try:
                self.assertEqual(
                    [process.pid, sleeping],
                    list(processes.family(process.pid)),
                )
                self.assertEqual(
                    ['sh', '-c'], processes.command(process.pid)[:2]
                )
            finally:
                os.kill(sleeping, 9)
        self.assertEqual(0, processes.memory(sleeping))
