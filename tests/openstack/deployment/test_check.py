# SPDX-License-Identifier: Apache-2.0
"""The verdict of ``nova-snapshot check`` on each mistake of a deployment."""

from __future__ import annotations

import ddt

from tests.openstack.deployment import mistakes
from tests.openstack.deployment.base import StockCloudTest
from tests.openstack.deployment.mistakes import Mistake
from tests.openstack.deployment.pages import API_LINE
from tests.openstack.deployment.pages import API_RESTART
from tests.openstack.deployment.pages import IN_SHORT
from tests.unit import tables

#: The findings of a cloud without volumes.
EXPECTED = {'Cinder'}


class CheckTest(StockCloudTest):
    """A host that is ready, and a configuration of its own for each test."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.operator.host.shell('pip install nova-snapshot-driver')
        cls.operator.configure(IN_SHORT)
        cls.operator.configure(API_LINE)
        cls.operator.follow(API_RESTART)

    def setUp(self) -> None:
        super().setUp()
        self.host = self.operator.host.with_copy(self.directory)


@ddt.ddt
class ConfigurationTest(CheckTest):
    def test_no_mistake(self) -> None:
        report = self.host.check('--expect-driver')
        self.assertEqual(EXPECTED, report.of_verdict('WARNING', 'FAILURE'))
        self.assertEqual(mistakes.READY, report.status)

    @tables.rows({**mistakes.MISTAKES, **mistakes.INVALID})
    def test_mistake(self, mistake: Mistake) -> None:
        for (group, name), value in mistake.options.items():
            self.host.put(group, name, value)
        report = self.host.check('--expect-driver')
        report.about(mistake.subject, mistake.verdict, *mistake.words)
        self.assertEqual(mistake.status, report.status)
