# SPDX-License-Identifier: Apache-2.0
"""The files for Grafana and Prometheus, which name existing metrics."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import yaml

from nova_snapshot_driver.snapshot import metrics
from tests.unit import test_exception
from tests.unit.snapshot.test_metrics import MetricsCase

ROOT = pathlib.Path(__file__).parents[2]
DASHBOARD = ROOT / 'etc/nova_snapshot_driver/grafana-dashboard.json'
RULES = ROOT / 'etc/nova_snapshot_driver/prometheus-rules.yaml'
PAGE = ROOT / 'doc/source/admin/operating.rst'
ALERTS = ROOT / 'tests/alerts.yaml'
RUNBOOK = ROOT / 'doc/source/admin/runbook.rst'

#: The address of the documentation that an operator replaces.
SITE = 'https://docs.example.org/nova-snapshot-driver'

NAME = re.compile(r'\bnova_snapshot_\w+')

#: Of the series that a metric consists of, by its type.
SUFFIXES = {
    'gauge': ('',),
    'counter': ('_total', '_created'),
    'histogram': ('_bucket', '_sum', '_count'),
}

CODES = {error.code for error in test_exception.classes()} | {metrics.FOREIGN}


def names_of(expressions: Iterator[str]) -> set[str]:
    return {
        name for expression in expressions for name in NAME.findall(expression)
    }


class MonitoringCase(MetricsCase):
    def existing(self) -> dict[str, str]:
        """The metrics that nova-compute writes, each with its type."""
        metrics.of(str(self.path))
        self.wait_for('nova_snapshot_running', 0)
        return dict(
            re.findall(
                r'^# TYPE (\S+(?<!_created)) (\w+)$',
                self.path.read_text(),
                re.MULTILINE,
            )
        )

    def series(self) -> set[str]:
        """The names by which they are asked for."""
        return {
            f'{name.removesuffix("_total")}{suffix}'
            for name, kind in self.existing().items()
            for suffix in SUFFIXES[kind]
        }

    def assert_codes_exist(self, expressions: Iterator[str]) -> None:
        for expression in expressions:
            for pattern in re.findall(r'code!?=~?"([^"]+)"', expression):
                for each in pattern.split('|'):
                    self.assertTrue(
                        any(re.fullmatch(each, code) for code in CODES), each
                    )


class DocumentationTest(MonitoringCase):
    def test_every_metric(self) -> None:
        described = re.findall(
            r'^   \* - ``(nova_snapshot_\w+)``', PAGE.read_text(), re.MULTILINE
        )
        self.assertEqual(sorted(self.existing()), sorted(described))


class DashboardTest(MonitoringCase):
    def setUp(self) -> None:
        super().setUp()
        self.dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())

    def expressions(self) -> Iterator[str]:
        for panel in self.dashboard['panels']:
            for target in panel['targets']:
                yield target['expr']

    def test_metrics_exist(self) -> None:
        self.assertLessEqual(names_of(self.expressions()), self.series())
        for variable in self.dashboard['templating']['list']:
            if variable['type'] == 'query':
                query = iter([variable['query']['query']])
                self.assertLessEqual(names_of(query), self.series())

    def test_every_metric_is_shown(self) -> None:
        shown = ' '.join(self.expressions())
        for name in self.existing():
            self.assertIn(name, shown)

    def test_codes_exist(self) -> None:
        self.assert_codes_exist(self.expressions())

    def test_panels_lie_beside_each_other(self) -> None:
        """Grafana would move one that covers another."""
        covered: set[tuple[int, int]] = set()
        ids = set()
        for panel in self.dashboard['panels']:
            ids.add(panel['id'])
            place = panel['gridPos']
            self.assertLessEqual(place['x'] + place['w'], 24)
            area = {
                (place['x'] + x, place['y'] + y)
                for x in range(place['w'])
                for y in range(place['h'])
            }
            self.assertEqual(set(), covered & area, panel['title'])
            covered |= area
        self.assertEqual(len(self.dashboard['panels']), len(ids))


class RulesTest(MonitoringCase):
    def setUp(self) -> None:
        super().setUp()
        groups = yaml.safe_load(RULES.read_text())['groups']
        self.rules = [rule for group in groups for rule in group['rules']]

    def expressions(self) -> Iterator[str]:
        for rule in self.rules:
            yield rule['expr']

    def test_metrics_exist(self) -> None:
        self.assertLessEqual(names_of(self.expressions()), self.series())

    def test_codes_exist(self) -> None:
        self.assert_codes_exist(self.expressions())

    def test_names(self) -> None:
        names = [rule['alert'] for rule in self.rules]
        self.assertEqual(sorted(set(names)), sorted(names))

    def test_every_alert_is_tested(self) -> None:
        """By promtool: that it fires, and that it does not."""
        tried = {
            (each['alertname'], 'exp_alerts' in each)
            for case in yaml.safe_load(ALERTS.read_text())['tests']
            for each in case.get('alert_rule_test', ())
        }
        for rule in self.rules:
            for fires in (True, False):
                self.assertIn((rule['alert'], fires), tried)

    def test_runbook_has_a_section_for_each(self) -> None:
        titles = re.findall(r'^(.+)\n=+$', RUNBOOK.read_text(), re.MULTILINE)
        anchors = {
            re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')
            for title in titles
        }
        for rule in self.rules:
            page, _, anchor = rule['annotations']['runbook_url'].partition('#')
            self.assertEqual(f'{SITE}/admin/runbook.html', page)
            self.assertIn(anchor, anchors)

    def test_errors_that_are_linked_exist(self) -> None:
        links = [
            rule['annotations']['error_url']
            for rule in self.rules
            if 'error_url' in rule['annotations']
        ]
        self.assertNotEqual([], links)
        for link in links:
            page, _, code = link.partition('#')
            self.assertEqual(f'{SITE}/reference/errors.html', page)
            self.assertIn(code, CODES | {'{{ $labels.code }}'})
