# SPDX-License-Identifier: Apache-2.0
"""Translation of the driver's errors into those that nova-compute handles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova import exception as nova_exception
from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.snapshot.plan import grounds

LOG = logging.getLogger(__name__)

# Errors that nobody has to look at: a user may delete the instance or the
# image.
_EXPECTED = (
    exception.Cancelled,
    exception.DomainNotFound,
    exception.ImageNotFound,
)


#: Errors that hide another one, after which something could not be deleted.
_LEFT_BEHIND = (
    exception.ImageLeftBehind,
    exception.VolumeSnapshotsLeftBehind,
)


class SnapshotFailed(nova_exception.NovaException):
    """A failure as the user reads it, without details of the host."""

    msg_fmt = (
        'The snapshot of instance %(instance_id)s failed (%(code_name)s). '
        'The log of nova-compute says why, and what to do.'
    )


class SnapshotRefused(nova_exception.NovaException):
    """A refusal that the user can do something about."""

    msg_fmt = 'The snapshot of instance %(instance_id)s failed: %(reason)s'


@contextlib.contextmanager
def translated(instance: str, image: str) -> Iterator[None]:
    """Raise Nova's exceptions in place of ours.

    ``nova.compute.manager`` is quiet about an instance or an image that is
    gone; everything else becomes a fault of the instance.

    :param instance: the UUID of the instance
    :param image: the id of the image
    """
    try:
        yield
    except exception.SnapshotError as error:
        events.log_event(
            LOG.info if isinstance(error, _EXPECTED) else LOG.error,
            Event.FAILED,
            f'Snapshot failed: {error}',
            instance,
            code=error.code,
            image=image,
        )
        failure: BaseException = error
        while isinstance(failure, _LEFT_BEHIND) and failure.__cause__:
            # nova-compute deletes the image once more, and needs the original
            # error.
            failure = failure.__cause__
        if isinstance(failure, exception.SnapshotError):
            raise _translation(failure, instance, image) from error
        raise failure from None


def _translation(
    error: exception.SnapshotError, instance: str, image: str
) -> nova_exception.NovaException:
    match error:
        case exception.CancelledByOperator() | exception.CancelledByStop():
            # The instance exists, and its task state has to be reset.
            return SnapshotFailed(instance_id=instance, code_name=error.code)
        case exception.DomainNotFound() | exception.Cancelled():
            return nova_exception.InstanceNotFound(instance_id=instance)
        case exception.ImageNotFound():
            return nova_exception.ImageNotFound(image_id=image)
        case exception.QuiesceFailed():
            return nova_exception.InstanceQuiesceFailed(
                reason=grounds.public(error.fields.get('public'))
            )
        case exception.TargetInvalid():
            # All of its words are those of whoever owns the server.
            return SnapshotRefused(instance_id=instance, reason=str(error))
        case exception.CinderOverLimit():
            return SnapshotRefused(
                instance_id=instance,
                reason='it would take more than the quota of the project for '
                'volumes and their snapshots allows (cinder-over-limit).',
            )
        case _:
            return SnapshotFailed(instance_id=instance, code_name=error.code)
