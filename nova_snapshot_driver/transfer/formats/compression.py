# SPDX-License-Identifier: Apache-2.0
"""Compression of clusters, on several cores."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import threading
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import zstandard

from nova_snapshot_driver.transfer.formats import zeros
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER

#: The window that QEMU has for inflating, as a power of two.
_WINDOW = 12

_ZLIB_LEVELS = 9

#: The most threads: more would cost the host more than they give the snapshot.
_MOST_THREADS = 4


#: The stored form of a cluster: shorter where it is compressed, and empty
#: where all of it is zero.
Stored = bytes | memoryview


class Compressor:
    """
    :param algorithm: zstd or zlib
    :param level: from 1 (fast) on
    """

    def __init__(self, algorithm: str, level: int) -> None:
        self.algorithm = algorithm
        self._make: Callable[[], Callable[[memoryview], bytes]] = {
            'zstd': lambda: zstandard.ZstdCompressor(level=level).compress,
            'zlib': lambda: _deflate(min(level, _ZLIB_LEVELS)),
        }[algorithm]
        # Compressors can't be shared: each thread has its own.
        self._local = threading.local()

    def compress(self, cluster: memoryview) -> Stored:
        """
        :param cluster: the last one of a disk may be shorter
        """
        if zeros.is_zero(cluster):
            return b''
        if len(cluster) < CLUSTER:
            cluster = memoryview(cluster.tobytes().ljust(CLUSTER, b'\0'))
        if not hasattr(self._local, 'compress'):
            self._local.compress = self._make()
        compressed: bytes = self._local.compress(cluster)
        # A saving of one byte would be no gain.
        return compressed if len(compressed) < CLUSTER - 1 else cluster

    @contextlib.contextmanager
    def compressed(
        self, blocks: Iterable[memoryview]
    ) -> Iterator[Iterator[list[Stored]]]:
        """The stored clusters of each block, in their order.

        The threads end with the context. A generator that is left half way
        would end them when the garbage collector comes by, in any thread; and
        a thread that is just being started can't wait for another.

        :param blocks: each valid until the next one is taken
        """
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            yield self._in_order(pool, 2 * threads, blocks)

    def _in_order(
        self,
        pool: concurrent.futures.Executor,
        ahead: int,
        blocks: Iterable[memoryview],
    ) -> Iterator[list[Stored]]:
        tasks: collections.deque[concurrent.futures.Future[list[Stored]]] = (
            collections.deque()
        )
        for block in blocks:
            tasks.append(pool.submit(self._compress_block, bytes(block)))
            if len(tasks) > ahead:
                yield tasks.popleft().result()
        while tasks:
            yield tasks.popleft().result()

    def _compress_block(self, block: bytes) -> list[Stored]:
        view = memoryview(block)
        return [
            self.compress(view[begin : begin + CLUSTER])
            for begin in range(0, len(block), CLUSTER)
        ]


def _deflate(level: int) -> Callable[[memoryview], bytes]:
    def deflate(cluster: memoryview) -> bytes:
        stream = zlib.compressobj(level, zlib.DEFLATED, -_WINDOW)
        return stream.compress(cluster) + stream.flush()

    return deflate
