# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from pathlib import Path

import ddt
import testtools

from bench.volumes import ways
from bench.volumes.ways import Way
from lab.cloud.log import ServiceLog
from tests.unit.tables import rows

SKIPPED = 'INFO Skipping quiescing instance: the agent does not answer.'


@ddt.ddt
class WayOfTest(testtools.TestCase):
    @rows(
        {
            'upstream': ({}, '', ways.UPSTREAM_FROZEN),
            'upstream_without_agent': ({}, SKIPPED, ways.UPSTREAM_UNHELD),
            'frozen': ({'snapshot_paused': 'false'}, '', ways.FROZEN),
            'paused': ({'snapshot_paused': 'true'}, '', ways.PAUSED),
        }
    )
    def test_way(
        self, properties: dict[str, str], logged: str, way: Way
    ) -> None:
        if properties:
            properties = {'snapshot_stall_seconds': '0.5', **properties}
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, 'nova-api.log')
            path.write_text(f'{SKIPPED} That was before.\n')
            log = ServiceLog(path)
            with path.open('a') as file:
                file.write(logged)
            self.assertIs(way, ways.way_of(properties, log))
