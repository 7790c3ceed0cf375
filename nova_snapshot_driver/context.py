# SPDX-License-Identifier: Apache-2.0
"""Who asks for a snapshot."""

from __future__ import annotations

from typing import Protocol

from nova_snapshot_driver.cinder import CinderAccess
from nova_snapshot_driver.image import GlanceAccess


class Context(Protocol):
    """The context of a request."""

    def glance_access(self) -> GlanceAccess:
        """The way to Glance, with a token that is valid now."""

    def cinder_access(self) -> CinderAccess:
        """The way to Cinder, with a token that is valid now."""
