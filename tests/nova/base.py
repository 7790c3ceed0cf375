# SPDX-License-Identifier: Apache-2.0
"""Nova's own class of tests, for a driver."""

from __future__ import annotations

import fixtures
from nova import test


class NovaCase(test.NoDBTestCase):
    """Nova, without a database and without policies."""

    def setUp(self) -> None:
        # No driver asks for a policy, and to read them takes longer than most
        # of the tests.
        with fixtures.MonkeyPatch(
            'nova.tests.fixtures.PolicyFixture', fixtures.Fixture
        ):
            super().setUp()
