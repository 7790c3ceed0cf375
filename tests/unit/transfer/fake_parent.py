# SPDX-License-Identifier: Apache-2.0
"""The parent of the data plane, in its own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nova_snapshot_driver.clients.access import GlanceAccess


class FakeParent:
    """Hears of the progress, and knows the way to Glance.

    :param glance_access: None where nobody is to ask for it
    :ivar told: the progress so far
    :ivar answers: how often it was asked for the way to Glance
    """

    def __init__(
        self, glance_access: Callable[[], GlanceAccess] | None = None
    ) -> None:
        self._glance_access = glance_access
        self.told: list[tuple[int, int]] = []
        self.answers = 0

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def glance_access(self) -> dict[str, Any]:
        assert self._glance_access is not None, 'nobody was to ask'
        self.answers += 1
        # All that comes over is JSON.
        access: dict[str, Any] = json.loads(
            json.dumps(self._glance_access().to_dict())
        )
        return access
