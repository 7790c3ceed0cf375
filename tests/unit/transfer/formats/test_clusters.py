# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fixtures
import testtools

from nova_snapshot_driver.transfer.formats import clusters
from nova_snapshot_driver.transfer.formats.clusters import CLUSTER
from nova_snapshot_driver.transfer.formats.clusters import Runs


class RunsTest(testtools.TestCase):
    def test_none(self) -> None:
        runs = Runs()
        self.assertEqual([], list(runs))
        self.assertEqual((0, 0), (runs.count, runs.end))

    def test_neighbours_are_one(self) -> None:
        runs = Runs([(1, 3), (3, 4), (6, 7)])
        self.assertEqual([(1, 4), (6, 7)], list(runs))
        self.assertEqual((4, 7), (runs.count, runs.end))

    def test_of_bytes(self) -> None:
        """A cluster that is touched in part is held as a whole, and once."""
        runs = Runs.of_bytes(
            [
                (0, 1),
                (512, CLUSTER + 1),
                (5 * CLUSTER - 1, 5 * CLUSTER),
                (6 * CLUSTER, 7 * CLUSTER),
            ]
        )
        self.assertEqual([(0, 2), (4, 5), (6, 7)], list(runs))
        self.assertEqual(4, runs.count)

    def test_more_than_are_kept_apart(self) -> None:
        """The gaps between are held too; nothing is lost."""
        self.useFixture(fixtures.MockPatchObject(clusters, 'LIMIT', 64))
        spans = [
            (index * 10 + index % 7, index * 10 + index % 7 + 1)
            for index in range(5000)
        ]
        runs = Runs(spans)
        self.assertLessEqual(len(list(runs)), 64)
        held = {index for run in runs for index in range(*run)}
        self.assertEqual(set(), {first for first, _ in spans} - held)
        self.assertEqual(len(held), runs.count)
        self.assertEqual(spans[-1][1], runs.end)

    def test_ranges(self) -> None:
        """The last cluster may be larger than what is left of the disk."""
        self.assertEqual(
            [(CLUSTER, 2 * CLUSTER), (4 * CLUSTER, 512)],
            list(clusters.ranges([(1, 3), (4, 5)], 4 * CLUSTER + 512)),
        )
