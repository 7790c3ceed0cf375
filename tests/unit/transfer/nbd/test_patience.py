# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import testtools

from nova_snapshot_driver.transfer.nbd.patience import Patience
from tests.unit import tables

KIB = 1 << 10


@ddt.ddt
class PatienceTest(testtools.TestCase):
    @tables.rows(
        {
            'silence': (16 * KIB, [], 46),
            'silence_at_any_rate': (0, [], 46),
            'half_of_the_rate': (128 * KIB, [(1, 64 * KIB)] * 100, 0),
            'a_byte_now_and_then': (16 * KIB, [(40, 1)] * 2, 0),
        }
    )
    def test_over(
        self, rate: int, served: list[tuple[float, int]], silent: float
    ) -> None:
        self.assertTrue(self.patience(rate, served, silent).is_over())

    @tables.rows(
        {
            'less_silence': (16 * KIB, [], 44),
            'the_rate': (128 * KIB, [(1, 128 * KIB)] * 10000, 0),
            'any_rate': (0, [(44, 1)] * 100, 44),
            'silence_again_and_again': (
                16 * KIB,
                [(44, 1 << 20), (1, 1 << 20)] * 10,
                0,
            ),
            'sectors_here_and_there': (16 * KIB, [(1, 512)] * 10000, 0),
        }
    )
    def test_not_over(
        self, rate: int, served: list[tuple[float, int]], silent: float
    ) -> None:
        self.assertFalse(self.patience(rate, served, silent).is_over())

    def patience(
        self, rate: int, served: list[tuple[float, int]], silent: float
    ) -> Patience:
        patience = Patience(45, rate)
        for seconds, size in served:
            patience.waited(seconds)
            if patience.is_over():
                return patience
            patience.served(size)
        patience.waited(silent)
        return patience
