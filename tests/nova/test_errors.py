# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import ddt
from nova import exception as nova_exception
from nova import objects as nova_objects
from nova.compute import utils as compute_utils
from nova.notifications.objects.exception import ExceptionPayload

from nova_snapshot_driver import exception
from nova_snapshot_driver.nova.errors import SnapshotFailed
from nova_snapshot_driver.nova.errors import SnapshotRefused
from tests.nova.host import ComputeCase
from tests.nova.host import request_context
from tests.unit import documents
from tests.unit import tables
from tests.unit import test_exception

#: The errors for which nova-compute has a reaction of its own. All others, now
#: or later, are a ``SnapshotFailed``.
TRANSLATIONS: dict[type[exception.SnapshotError], type[Exception]] = {
    # The domain was there when the snapshot began.
    exception.DomainNotFound: nova_exception.InstanceNotFound,
    exception.Cancelled: nova_exception.InstanceNotFound,
    exception.ImageNotFound: nova_exception.ImageNotFound,
    exception.QuiesceFailed: nova_exception.InstanceQuiesceFailed,
    exception.CinderOverLimit: SnapshotRefused,
    exception.TargetInvalid: SnapshotRefused,
}

#: Nova's own driver takes the snapshot then, as ``RefusedTest`` shows.
NO_ERROR = exception.NotSupported

EVERY = {
    error.__name__: (error,)
    for error in test_exception.classes()
    if error is not NO_ERROR
}

#: Details of the host, which are no business of a user.
DETAILS = (
    '/var/lib/nova/instances/8a6f3f5e/disk',
    'http://10.1.2.3:9292/v2/images',
    'qemu+tls://compute-7.internal/system',
    'n0va-p4ssword',
)


def secretive(
    error: type[exception.SnapshotError],
) -> exception.SnapshotError:
    """An error whose fields are details of the host."""
    names = [*test_exception.fields(error), 'public']
    return error(**dict(zip(names, itertools.cycle(DETAILS), strict=False)))


@ddt.ddt
class EveryErrorTest(ComputeCase):
    """Every error of a snapshot, as nova-compute sees it."""

    def fail(self, error: exception.SnapshotError) -> Exception:
        def strike() -> None:
            raise error

        self.host.data_plane.at_extract = strike
        try:
            self.host.take()
        except Exception as raised:
            return raised
        raise AssertionError('the snapshot has not failed')

    @tables.rows(EVERY)
    def test_translated(self, error: type[exception.SnapshotError]) -> None:
        cause = secretive(error)
        raised = self.fail(cause)
        self.assertIs(TRANSLATIONS.get(error, SnapshotFailed), type(raised))
        self.assertIsInstance(raised, nova_exception.NovaException)
        self.assert_image_is_gone()
        # The operator sees all of the error.
        self.assertIs(cause, raised.__cause__)
        self.assertIn(f'Snapshot failed: {cause}', self.host.log.output)
        if error is not exception.TargetInvalid:
            # All fields of that one are words of whoever owns the server.
            self.tells_nothing_of_the_host(raised)
        if error not in TRANSLATIONS:
            self.tells_the_code(raised, error.code)

    def tells_nothing_of_the_host(self, raised: Exception) -> None:
        """No text for the user names the host: fault, event, notification.

        The fault has a traceback too, with all details: nova-api shows a
        traceback of the code 500 to admins alone, and none of another code.
        """
        fault = compute_utils.exception_to_dict(raised)
        payload = ExceptionPayload.from_exception(raised)
        event = nova_objects.InstanceActionEvent.pack_action_event_finish(
            request_context(), documents.UUID, 'snapshot', raised, 'trace'
        )
        for text in (
            fault['message'],
            event['details'],
            payload.exception_message,
        ):
            for detail in DETAILS:
                self.assertNotIn(detail, text)
        information = (type(raised), raised, raised.__traceback__)
        told = compute_utils._get_fault_details(information, fault['code'])
        self.assertEqual(fault['code'] == 500, bool(told))

    def tells_the_code(self, raised: Exception, code: str) -> None:
        message = compute_utils.exception_to_dict(raised)['message']
        self.assertIn(f'({code})', message)
        self.assertIn(documents.UUID, message)
        # Nova cuts off what is longer than its column.
        self.assertEqual(str(raised), message)


@ddt.ddt
class TranslationTest(ComputeCase):
    def raised_for(self, error: exception.SnapshotError) -> Exception:
        def strike() -> None:
            raise error

        self.host.data_plane.at_upload = strike
        try:
            self.host.take()
        except Exception as raised:
            return raised
        raise AssertionError('the snapshot has not failed')

    def test_instance_is_named(self) -> None:
        raised = self.raised_for(exception.DomainNotFound(domain='web-1'))
        self.assertIn(documents.UUID, str(raised))

    def test_image_is_named(self) -> None:
        raised = self.raised_for(
            exception.ImageNotFound(endpoint='http://here', image='i')
        )
        self.assertIn(self.host.image, str(raised))

    def test_quiesce_says_why(self) -> None:
        """The user has asked for it, and can do something about it."""
        raised = self.raised_for(
            exception.QuiesceFailed(
                domain='web-1',
                reason='no agent is running in the guest: of /var/lib/x',
                public='no agent is running in the guest',
            )
        )
        self.assertIn('no agent is running in the guest', str(raised))
        self.assertNotIn('/var/lib/x', str(raised))

    @tables.rows(
        {
            'instance': (exception.Cancelled(reason='it is destroyed'),),
            'domain': (exception.DomainNotFound(domain='web-1'),),
            'image': (
                exception.ImageNotFound(endpoint='http://here', image='i'),
            ),
        }
    )
    def test_what_a_user_may_delete_is_no_error_of_the_host(
        self, error: exception.SnapshotError
    ) -> None:
        self.raised_for(error)
        self.assertNotIn('ERROR', self.host.log.output)
        self.assertIn(f'Snapshot failed: {error}', self.host.log.output)

    @tables.rows(
        {
            error.code: (error,)
            for error in (
                exception.CancelledByOperator(reason='nova-snapshot cancel'),
                exception.CancelledByStop(reason='nova-compute stops'),
            )
        }
    )
    def test_cancelled_by_whoever_runs_the_host(
        self, error: exception.Cancelled
    ) -> None:
        """nova-compute is quiet about an instance that is gone, and leaves
        its task state. This one is there, and is to be used again.
        """
        raised = self.raised_for(error)
        self.assertIs(SnapshotFailed, type(raised))
        self.assertIn(f'({error.code})', str(raised))
        self.assertNotIn('ERROR', self.host.log.output)

    def test_image_that_is_left_behind_hides_nothing(self) -> None:
        """The instance is deleted, and Glance is away.

        nova-compute is quiet about an instance that is gone. For any other
        error it resets the task state, and that is ``deleting``.
        """
        left = exception.ImageLeftBehind(image='i', cause='c', reason='r')
        left.__cause__ = exception.Cancelled(reason='the instance is deleted')
        raised = self.raised_for(left)
        self.assertIs(nova_exception.InstanceNotFound, type(raised))
        self.assertIn('could not be deleted', self.host.log.output)
