# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any

import ddt
import testtools

from bench import bars
from bench.bars import Bar
from bench.content import GIB
from bench.content import MIB
from bench.figures import Figure
from bench.processes import Usage
from bench.sample import Sample
from bench.subjects import BLOCK
from bench.subjects import EMPTY
from bench.subjects import EMPTY_HUGE
from bench.subjects import PAUSED
from bench.subjects import ZEROS
from bench.ways import BACKUP
from bench.ways import FLOOR
from bench.ways import MIRROR
from bench.ways import UPSTREAM
from bench.ways import ZSTD
from tests.unit.bench import samples
from tests.unit.tables import rows

UPSTREAM_SAMPLE = samples.sample(
    UPSTREAM,
    wall=40,
    stall=0.2,
    temporary=8 * GIB,
    usage=samples.used(Usage(1, 0, 4 * GIB), Usage(2, 0, 4 * GIB)),
)
FLOOR_SAMPLE = samples.sample(FLOOR, wall=20)
ZSTD_SAMPLE = samples.sample(ZSTD, wall=19)
BACKUP_SAMPLE = samples.sample(
    BACKUP,
    wall=22,
    stall=0.2,
    temporary=100 * MIB,
    overwritten=90 * MIB,
    memory=100 * MIB,
    usage=samples.used(Usage(1, 0, 100 * MIB), Usage(1, 0, MIB)),
)

#: Everything is well.
WELL = [
    UPSTREAM_SAMPLE,
    FLOOR_SAMPLE,
    ZSTD_SAMPLE,
    BACKUP_SAMPLE,
    samples.sample(UPSTREAM, subject=ZEROS),
    samples.sample(BACKUP, subject=ZEROS),
    samples.sample(BACKUP, subject=EMPTY),
    samples.sample(BACKUP, subject=EMPTY_HUGE, wall=2.9),
    samples.sample(BACKUP, subject=PAUSED),
    samples.sample(BACKUP, subject=BLOCK),
]


def verdicts(*found: Sample) -> dict[tuple[str, str], bool | None]:
    results = samples.results(*found, freezes=(0.1,))
    return {(bar.subject, bar.name): bar.met for bar in bars.bars(results)}


@ddt.ddt
class BarsTest(testtools.TestCase):
    def test_all_are_met(self) -> None:
        found = verdicts(*WELL)
        self.assertEqual(14, len(found))
        self.assertEqual({True}, set(found.values()))

    def test_nothing_was_measured(self) -> None:
        self.assertEqual({None}, set(verdicts().values()))

    @rows(
        {
            'wall': (
                BACKUP_SAMPLE,
                {'wall': 24},
                {'wall, relative to the floor'},
            ),
            'wall_above_the_floor': (
                UPSTREAM_SAMPLE,
                {'wall': 29},
                {"wall above the floor, relative to upstream's"},
            ),
            'wall_with_zstd': (
                ZSTD_SAMPLE,
                {'wall': 20},
                {'wall with zstd, relative to the uncompressed floor'},
            ),
            'written': (
                BACKUP_SAMPLE,
                {'usage': samples.used(Usage(1, 0, GIB), Usage())},
                {'bytes written on the host, relative to upstream'},
            ),
            'temporary': (
                BACKUP_SAMPLE,
                {'overwritten': 30 * MIB},
                {'temporary space beyond what the guest overwrote'},
            ),
            'stall': (
                BACKUP_SAMPLE,
                {'stall': 0.3},
                {"the guest's longest stall, relative to upstream"},
            ),
            'long_stall': (
                BACKUP_SAMPLE,
                {'stall': 0.5},
                {
                    "the guest's longest stall, relative to upstream",
                    'the same, beyond the freeze and the thaw',
                },
            ),
            'processor': (
                BACKUP_SAMPLE,
                {'usage': samples.used(Usage(), Usage(4))},
                {'CPU seconds per GiB, relative to upstream'},
            ),
            'memory': (
                ZSTD_SAMPLE,
                {'memory': 151 * MIB},
                {'maximum memory of the data plane'},
            ),
            'image': (
                UPSTREAM_SAMPLE,
                {'size': 0.9 * GIB},
                {'size of the image, relative to upstream'},
            ),
        }
    )
    def test_one_is_not_met(
        self, sample: Sample, worse: dict[str, Any], expected: set[str]
    ) -> None:
        others = [one for one in WELL if one is not sample]
        found = verdicts(*others, dataclasses.replace(sample, **worse))
        missed = {
            name for (_subject, name), met in found.items() if met is False
        }
        self.assertEqual(expected, missed)

    def test_scratch_is_that_of_a_backup_alone(self) -> None:
        """The files of the mirror are copies of the data."""
        self.assertEqual(MIB, bars.written(BACKUP_SAMPLE))
        mirror = dataclasses.replace(BACKUP_SAMPLE, way=MIRROR.name)
        self.assertEqual(101 * MIB, bars.written(mirror))

    def test_the_limit_itself(self) -> None:
        bar = Bar('', 1, '', Figure(1, 1, 1))
        self.assertTrue(bar.met)
        self.assertFalse(dataclasses.replace(bar, below=True).met)
