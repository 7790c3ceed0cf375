# SPDX-License-Identifier: Apache-2.0
"""The alert rules, as Prometheus itself evaluates them."""

from __future__ import annotations

from pathlib import Path

import testtools

from lab.bounded import run
from lab.promtool import promtool

ROOT = Path(__file__).resolve().parents[2]

#: Seconds
TIMEOUT = 120


class AlertsTest(testtools.TestCase):
    def test_each_fires_when_it_should_and_only_then(self) -> None:
        said = run(
            [promtool(), 'test', 'rules', ROOT / 'tests/alerts.yaml'],
            timeout=TIMEOUT,
        )
        self.assertIn('SUCCESS', said)
