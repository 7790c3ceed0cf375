# SPDX-License-Identifier: Apache-2.0
"""A cloud with a stock Nova, and its operator."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from typing import ClassVar

from lab.cloud.configuration import Overrides
from lab.cloud.options import STOCK_API
from lab.cloud.options import STOCK_DRIVER
from lab.directory import lab_directory
from tests.openstack import base
from tests.openstack.deployment.host import Host
from tests.openstack.deployment.operator import Operator


class StockCloudTest(base.CloudTest):
    """Tests with a Nova whose configuration files are as they were made.

    What is installed, and what runs, may be what an earlier class has left.
    """

    cloud_options: ClassVar[dict[str, Any]] = {
        'driver': STOCK_DRIVER,
        'app_factory': STOCK_API,
        'stock': True,
    }
    operator: ClassVar[Operator]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        home = tempfile.TemporaryDirectory(dir=lab_directory(), prefix='home.')
        cls.addClassCleanup(home.cleanup)
        cls.operator = Operator(Host(cls.cloud, Path(home.name)))

    @classmethod
    def overrides(cls) -> Overrides:
        """Nothing beside what the pages say."""
        return {}
