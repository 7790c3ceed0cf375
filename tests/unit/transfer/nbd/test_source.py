# SPDX-License-Identifier: Apache-2.0
"""Servers of NBD, and why nothing that they say is believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ddt
import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver.transfer.nbd import source
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests import exhaustive
from tests.unit import tables
from tests.unit.transfer.nbd_server import Extents
from tests.unit.transfer.nbd_server import NbdServer

SIZE = 1 << 20

#: In which a server has to say something, in seconds.
TIMEOUT = 0.5

#: How many pieces a server sends before it is asked for something.
HANDSHAKE = 6

#: The seconds that would be a failure of the test, and not of the code.
PATIENCE = 30

ZERO = 2
DIRTY = 1

#: The answers to a question for all of a disk, by what is wrong with them.
EXTENTS: dict[str, Callable[[int, int], Extents]] = {
    'none': lambda _offset, _length: [],
    'of_nothing': lambda _offset, length: [(0, 0), (length, 0)],
    'of_a_byte': lambda _offset, length: [(1, 0)] * 1000,
    'of_no_sectors': lambda _offset, length: [(513, 0), (length - 513, 0)],
    'more_than_qemu_says': lambda _offset, length: (
        [(512, 0), (512, ZERO)] * (1 << 17)
    ),
    'millions_of_a_byte': lambda _offset, length: [(1, 0)] * (1 << 21),
}


class SourceCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.useFixture(NbdServer(SIZE))
        self.timeout: float = TIMEOUT

    def read(
        self, known: int | None = None, bounds: Bounds | None = None
    ) -> tuple[list[tuple[int, int]], int]:
        """The extents of the disk, and how many bytes were read of it."""
        return read(
            self.server,
            known,
            bounds or Bounds(timeout=self.timeout, least_rate=1 << 14),
        )

    def assert_unreadable(self, reason: str, known: int | None = None) -> None:
        began = time.monotonic()
        error = self.assertRaises(exception.SourceUnreadable, self.read, known)
        self.assertIn(reason, str(error))
        self.assertLess(time.monotonic() - began, PATIENCE)


def read(
    server: NbdServer, known: int | None, bounds: Bounds
) -> tuple[list[tuple[int, int]], int]:
    with source.opened(server.export(known), bounds, '/') as disk:
        extents = list(disk.data())
        ranges = [(begin, end - begin) for begin, end in extents]
        with disk.read(ranges) as blocks:
            return extents, sum(len(block) for block in blocks)


@ddt.ddt
class SizeTest(SourceCase):
    def test_known(self) -> None:
        self.assertEqual(([(0, SIZE)], SIZE), self.read())

    @tables.rows(
        {
            'larger': (SIZE + 512,),
            'smaller': (SIZE - 512,),
            'none': (0,),
            '64_pib': (64 << 50,),
            'largest_of_all': ((1 << 63) - 512,),
        }
    )
    def test_another(self, said: int) -> None:
        self.server.size = said
        self.assert_unreadable(
            f'the server says {said} bytes, and libvirt {SIZE}', SIZE
        )

    def test_negative(self) -> None:
        self.server.size = 1 << 63
        self.assert_unreadable(f'says {-(1 << 63)} bytes')

    def test_known_and_yet_too_large(self) -> None:
        """A QEMU may lie to libvirt too."""
        self.server.size = 64 << 50
        self.assert_unreadable('no disk has more')


@ddt.ddt
class ExtentsTest(SourceCase):
    @tables.rows({name: (answer,) for name, answer in EXTENTS.items()})
    def test_refused(self, answer: Callable[[int, int], Extents]) -> None:
        self.server.extents = answer
        self.timeout = PATIENCE
        self.assert_unreadable('')

    def test_of_another_context(self) -> None:
        self.server.context = 2
        self.assert_unreadable('')

    def test_cut_at_what_was_asked(self) -> None:
        """The last one of an answer may go beyond it, and beyond the disk."""
        self.server.extents = lambda offset, _length: [
            (512, 0),
            ((1 << 32) - 512, ZERO),
            (512, 0),
        ]
        self.assertEqual(([(0, 512)], 512), self.read())

    def test_never_more_than_a_sector(self) -> None:
        """The rest of the disk is read after so many answers."""
        self.useFixture(fixtures.MockPatchObject(source, '_MOST_ANSWERS', 100))
        self.server.extents = lambda _offset, _length: [(512, ZERO)]
        extents, size = self.read()
        self.assertEqual([(100 * 512, SIZE)], extents)
        self.assertEqual(SIZE - 100 * 512, size)


@ddt.ddt
class DirtyTest(SourceCase):
    """The second context is believed no more than the first."""

    def dirty(self, bitmap: str | None = 'chg') -> list[tuple[int, int]]:
        bounds = Bounds(timeout=self.timeout, least_rate=1 << 14)
        export = self.server.export(bitmap=bitmap)
        with source.opened(export, bounds, '/') as disk:
            list(disk.data())
            return list(disk.dirty())

    def test_beside_the_data(self) -> None:
        self.server.extents = lambda _offset, length: [(length, ZERO)]
        self.server.dirty = lambda _offset, length: [
            *((1 << 16, 0), (1 << 16, DIRTY), (1 << 17, 0)),
            (length, DIRTY),
        ]
        self.assertEqual([(1 << 16, 1 << 17), (1 << 18, SIZE)], self.dirty())

    @tables.rows({'none': (None,), 'another': ('other',), 'empty': ('',)})
    def test_not_exported(self, bitmap: str | None) -> None:
        """No changes and no bitmap are two things."""
        self.server.dirty = lambda _offset, length: [(length, 0)]
        with testtools.ExpectedException(
            exception.SourceUnreadable, '.*the server has no .*'
        ):
            self.dirty(bitmap)

    def test_server_that_knows_no_bitmaps(self) -> None:
        with testtools.ExpectedException(
            exception.SourceUnreadable,
            '.*the server has no qemu:dirty-bitmap:chg.*',
        ):
            self.dirty()

    @tables.rows({name: (answer,) for name, answer in EXTENTS.items()})
    def test_refused(self, answer: Callable[[int, int], Extents]) -> None:
        self.server.dirty = answer
        self.timeout = PATIENCE
        self.assertRaises(exception.SourceUnreadable, self.dirty)

    def test_rest_counts_as_changed(self) -> None:
        self.useFixture(fixtures.MockPatchObject(source, '_MOST_ANSWERS', 100))
        self.server.dirty = lambda _offset, _length: [(512, 0)]
        self.assertEqual([(100 * 512, SIZE)], self.dirty())


@ddt.ddt
class SlownessTest(SourceCase):
    @tables.rows({str(piece): (piece,) for piece in range(8)})
    def test_silent(self, piece: int) -> None:
        """At the handshake, at an answer or in the middle of the data."""

        def sent(number: int, data: bytes) -> bytes:
            if number == piece:
                time.sleep(3 * TIMEOUT)
            return data

        self.server.sent = sent
        self.assert_unreadable(f'no answer for {TIMEOUT} s')

    @tables.rows({str(piece): (piece,) for piece in range(8)})
    def test_byte_by_byte(self, piece: int) -> None:
        """Never silent, and never done."""

        def sent(number: int, data: bytes) -> bytes:
            if number == piece:
                for index in range(len(data) - 1):
                    self.server.drip(data[index : index + 1])
                    time.sleep(TIMEOUT / 5)
            return data[-1:]

        self.server.sent = sent
        self.assert_unreadable(f'no answer for {TIMEOUT} s')

    def test_slow_and_healthy(self) -> None:
        """A server may pause, as long as it is faster than the least rate."""

        def sent(number: int, data: bytes) -> bytes:
            if number >= HANDSHAKE:
                time.sleep(0.2)
            return data

        self.server.sent = sent
        self.assertEqual(([(0, SIZE)], SIZE), self.read())

    def test_throttle_does_not_count(self) -> None:
        bounds = Bounds(SIZE, TIMEOUT, least_rate=2 * SIZE)
        self.assertEqual(([(0, SIZE)], SIZE), self.read(bounds=bounds))

    def test_reader_does_not_count(self) -> None:
        """Readers may take their time to work on what was read."""
        bounds = Bounds(timeout=TIMEOUT, least_rate=1 << 14)
        with (
            source.opened(self.server.export(), bounds, '/') as disk,
            disk.read([(0, SIZE)]) as blocks,
        ):
            time.sleep(2 * TIMEOUT)
            self.assertEqual(SIZE, sum(len(block) for block in blocks))


#: Changes to a piece that is sent.
CHANGES = strategies.one_of(
    strategies.none(),
    strategies.binary(max_size=64).map(lambda new: lambda _old: new),
    strategies.tuples(
        strategies.integers(0, 40), strategies.binary(max_size=9)
    ).map(
        lambda change: (
            lambda old: (
                old[: change[0]]
                + change[1]
                + old[change[0] + len(change[1]) :]
            )
        )
    ),
    strategies.integers(0, 40).map(lambda end: lambda old: old[:end]),
)

#: Extents of any kind.
ANY_EXTENTS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from([0, 1, 512, 65536, 1 << 31, (1 << 32) - 1])
        | strategies.integers(0, (1 << 32) - 1),
        strategies.integers(0, 7),
    ),
    max_size=20,
)


class FuzzTest(testtools.TestCase):
    """Any answer is a disk or an error of the driver's own."""

    @hypothesis.settings(
        max_examples=exhaustive.examples(60),
        deadline=None,
        database=None,
        derandomize=True,
    )
    @hypothesis.given(
        strategies.dictionaries(
            strategies.integers(0, 12), CHANGES, max_size=3
        )
    )
    def test_pieces(self, changes: dict[int, Any]) -> None:
        def sent(number: int, data: bytes) -> bytes | None:
            if number not in changes:
                return data
            change = changes[number]
            return None if change is None else bytes(change(data))

        with NbdServer(SIZE) as server:
            server.sent = sent
            self.see(server, SIZE)

    @hypothesis.settings(
        max_examples=exhaustive.examples(60),
        deadline=None,
        database=None,
        derandomize=True,
    )
    @hypothesis.given(
        strategies.integers(0, 1 << 22), strategies.lists(ANY_EXTENTS)
    )
    def test_extents(self, size: int, answers: list[Extents]) -> None:
        following = iter(answers)
        with NbdServer(size) as server:
            server.extents = lambda _offset, length: next(
                following, [(length, 0)]
            )
            self.see(server, size)

    @hypothesis.settings(
        max_examples=exhaustive.examples(60),
        deadline=None,
        database=None,
        derandomize=True,
    )
    @hypothesis.given(
        strategies.integers(0, 1 << 22), strategies.lists(ANY_EXTENTS)
    )
    def test_dirty(self, size: int, answers: list[Extents]) -> None:
        following = iter(answers)
        bounds = Bounds(timeout=0.1, least_rate=1 << 14)
        with NbdServer(size) as server:
            server.dirty = lambda _offset, length: next(
                following, [(length, DIRTY)]
            )
            export = server.export(bitmap='chg')
            try:
                with source.opened(export, bounds, '/') as disk:
                    extents = list(disk.dirty())
            except exception.SourceUnreadable:
                return
        self.assert_ordered(extents, size)

    def assert_ordered(
        self, extents: list[tuple[int, int]], size: int
    ) -> None:
        """Whether extents are some of a disk, one after the other."""
        end = 0
        for begin, next_end in extents:
            self.assertLessEqual(end, begin)
            self.assertLess(begin, next_end)
            end = next_end
        self.assertLessEqual(end, size)

    def see(self, server: NbdServer, size: int) -> None:
        bounds = Bounds(timeout=0.1, least_rate=1 << 14)
        try:
            extents, taken = read(server, size, bounds)
        except exception.SourceUnreadable:
            return
        self.assert_ordered(extents, size)
        self.assertEqual(sum(e - b for b, e in extents), taken)
