# SPDX-License-Identifier: Apache-2.0
"""An image of a snapshot that failed or died, which stays in Glance."""

from __future__ import annotations

from nova_snapshot_driver import exception


def image_left_behind(
    image: str, reason: object, cause: object = 'it died'
) -> exception.ImageLeftBehind:
    """
    :param reason: why it is not known to be deleted
    :param cause: why it is not wanted
    """
    return exception.ImageLeftBehind(
        image=image,
        cause=str(cause) or type(cause).__name__,
        reason=str(reason).rstrip('.'),
    )
