# SPDX-License-Identifier: Apache-2.0
"""An image of a snapshot that failed or died, which stays in Glance."""

from __future__ import annotations

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import Context


def require_sight(
    cloud: Context | None, image: str, project: str | None
) -> Context:
    """See that a service that denies a thing does so because it is gone.

    :param cloud: None where nobody asks
    :param project: of the image
    :raises ImageLeftBehind: the thing may just be hidden
    """
    if cloud is None:
        raise image_left_behind(image, 'Glance is not asked here')
    try:
        if cloud.sees(project):
            return cloud
    except exception.SnapshotError as error:
        raise image_left_behind(image, error) from error
    owner = f'the project {project}' if project else 'an unknown project'
    raise image_left_behind(
        image, f'it is of {owner}, and whoever asks here may not see it'
    )


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
