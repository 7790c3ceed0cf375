# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import testtools

from lab.cloud import configuration
from lab.cloud.options import STOCK_API
from lab.errors import LabError

_PASTE = f"""\
[app:metaapp]
paste.app_factory = nova.api.metadata.handler:MetadataRequestHandler.factory
[app:osapi_compute_app_v21]
paste.app_factory = {STOCK_API}
"""


class AppFactoryTest(testtools.TestCase):
    def test_one_line_is_another(self) -> None:
        paste = configuration._with_app_factory(_PASTE, 'ours:app_factory')
        self.assertEqual(_PASTE.replace(STOCK_API, 'ours:app_factory'), paste)
        self.assertIn('metadata.handler', paste)

    def test_novas_own_changes_nothing(self) -> None:
        paste = configuration._with_app_factory(_PASTE, STOCK_API)
        self.assertEqual(_PASTE, paste)

    def test_a_nova_that_has_moved_it(self) -> None:
        self.assertRaises(
            LabError, configuration._with_app_factory, '[app:other]', 'a:b'
        )
