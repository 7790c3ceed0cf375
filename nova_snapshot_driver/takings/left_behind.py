# SPDX-License-Identifier: Apache-2.0
"""An image of a snapshot that died, which nobody has deleted."""

from __future__ import annotations

from nova_snapshot_driver import exception


def image_left_behind(image: str, reason: object) -> exception.ImageLeftBehind:
    """
    :param reason: why it is not known to be deleted
    """
    return exception.ImageLeftBehind(
        image=image, cause='it died', reason=str(reason).rstrip('.')
    )
