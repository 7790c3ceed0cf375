# SPDX-License-Identifier: Apache-2.0
"""A QEMU that says anything, to the data plane as it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import struct
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

import ddt
import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import Save
from tests import processes
from tests.functional.test_limits import MOST_MEMORY
from tests.unit import tables
from tests.unit.transfer.nbd_server import NbdServer

SIZE = 1 << 40

#: In which a refusal comes, in seconds.
A_MINUTE = 60

#: More than any job has, in seconds.
TIMEOUT = 600

#: The limits of a host where nothing else was configured.
LIMITS = dataclasses.replace(
    Limits.of(conf.read_settings(conf.load([])).transfer, Save),
    timeout=TIMEOUT,
)

#: Limits that bear less silence: one attack has those of the default too.
IMPATIENT = dataclasses.replace(LIMITS, source_timeout=5)

#: How many pieces a server sends before it is asked for something.
HANDSHAKE = 6

#: Extents of a byte, as many as libnbd takes at once.
MILLIONS = struct.pack('>II', 1, 0) * (8 * (1 << 20) - 1)


def _says_64_pib(server: NbdServer) -> None:
    server.size = 64 << 50


def _says_that_it_is_negative(server: NbdServer) -> None:
    server.size = 1 << 63


def _has_extents_of_a_byte(server: NbdServer) -> None:
    server.extents = lambda _offset, _length: [(1, 0)]


def _has_millions_of_extents(server: NbdServer) -> None:
    def sent(number: int, data: bytes) -> bytes:
        if number < HANDSHAKE:
            return data
        # The cookie is that of the question.
        context = struct.pack('>I', server.context)
        length = struct.pack('>I', len(context) + len(MILLIONS))
        return data[:16] + length + context + MILLIONS

    server.sent = sent


def _says_nothing_at(piece: int) -> Callable[[NbdServer], None]:
    def silence(server: NbdServer) -> None:
        def sent(number: int, data: bytes) -> bytes | None:
            if number == piece:
                server.gone.wait(A_MINUTE)
                return None
            return data

        server.sent = sent

    return silence


def _says_a_byte_a_second(server: NbdServer) -> None:
    def sent(number: int, data: bytes) -> bytes | None:
        if number < HANDSHAKE:
            return data
        for index in range(len(data)):
            server.drip(data[index : index + 1])
            if server.gone.wait(1):
                break
        return None

    server.sent = sent


HOSTILE = {
    '64_pib': (_says_64_pib, LIMITS),
    'negative': (_says_that_it_is_negative, LIMITS),
    'extents_of_a_byte': (_has_extents_of_a_byte, LIMITS),
    'millions_of_extents': (_has_millions_of_extents, LIMITS),
    'silent_at_once': (_says_nothing_at(0), LIMITS),
    'silent_in_the_handshake': (_says_nothing_at(4), IMPATIENT),
    'silent_at_an_answer': (_says_nothing_at(HANDSHAKE), IMPATIENT),
    'a_byte_a_second': (_says_a_byte_a_second, IMPATIENT),
}


@ddt.ddt
class HostileExportTest(testtools.TestCase):
    """An attack costs a minute and little memory, by the default limits."""

    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.server = self.useFixture(NbdServer(SIZE))
        self.peak = 0

    @contextlib.contextmanager
    def memory_watched(self, pid: int) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            # The process may have ended, and has no memory then.
            with contextlib.suppress(OSError, KeyError):
                while not ended.wait(0.005):
                    self.peak = max(self.peak, processes.peak_memory(pid))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def save(self, encoding: Encoding, limits: Limits) -> None:
        with (
            data_plane.started(
                Save, limits, silent, Cancellation()
            ) as started,
            self.memory_watched(started._process.pid),
        ):
            started.run(
                Save(
                    self.server.export(SIZE),
                    encoding,
                    str(self.root / 'image'),
                    str(self.root),
                )
            )

    @tables.rows(HOSTILE)
    def test_refused(
        self, hostile: Callable[[NbdServer], None], limits: Limits
    ) -> None:
        hostile(self.server)
        began = time.monotonic()
        error = self.assertRaises(
            exception.SourceUnreadable,
            self.save,
            Encoding('qcow2', 'zstd'),
            limits,
        )
        self.assertLess(time.monotonic() - began, A_MINUTE)
        self.assertNotEqual('', error.fields['reason'])
        self.assertGreater(self.peak, 0)
        self.assertLess(self.peak, MOST_MEMORY)
