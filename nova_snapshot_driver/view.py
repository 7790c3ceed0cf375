# SPDX-License-Identifier: Apache-2.0
"""The content of a disk at one instant, as something that can be read."""

from __future__ import annotations

import dataclasses

from nova_snapshot_driver.domain import Layer


@dataclasses.dataclass(frozen=True)
class Export:
    """An NBD export, whose content is that of the disk as the guest sees it.

    :ivar socket: the path of the Unix socket of its server
    :ivar name: of the export
    """

    socket: str
    name: str


#: An image file is one while nobody writes to it.
View = Export | Layer
