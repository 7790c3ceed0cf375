# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import testtools

from bench import captions
from bench.processes import Usage
from bench.sample import GLANCE
from bench.sample import Sample
from bench.ways import BACKUP
from bench.ways import FLOOR
from tests.unit.bench import samples


def stream(wall: float) -> Sample:
    return samples.sample(BACKUP, wall=wall, usage={GLANCE: Usage(cpu=26.2)})


def upload(wall: float) -> Sample:
    return samples.sample(FLOOR, wall=wall, usage={GLANCE: Usage(cpu=42.6)})


class FloorTest(testtools.TestCase):
    def floor(self, *taken: Sample) -> str:
        return captions.floor(samples.results(*taken), samples.SUBJECT)

    def test_what_it_is(self) -> None:
        text = self.floor(stream(50.0), upload(48.0))
        self.assertIn("a finished image, in memory, is sent by Glance's", text)
        self.assertNotIn('below', text)

    def test_why_a_stream_is_below_it(self) -> None:
        text = self.floor(stream(35.0), upload(48.0))
        self.assertIn('A stream (backup) can be below it', text)
        self.assertIn('26 s of CPU time on the chunks of 64 KiB', text)
        self.assertIn('43 s on those of 1 MiB', text)

    def test_without_a_stream(self) -> None:
        self.assertNotIn('below', self.floor(upload(48.0)))
