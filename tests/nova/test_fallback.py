# SPDX-License-Identifier: Apache-2.0
"""Nova's own driver takes the snapshot that was asked for, or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ddt
from nova import exception as nova_exception
from nova import objects

from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.nova.errors import SnapshotFailed
from nova_snapshot_driver.snapshot.request import BEYOND_NOVA
from nova_snapshot_driver.snapshot.request import Request
from nova_snapshot_driver.snapshot.request import TaskStates
from tests.nova.base import NovaCase
from tests.nova.host import REQUIRES_QUIESCE
from tests.nova.host import ComputeHost
from tests.nova.host import instance
from tests.unit import documents
from tests.unit import tables

#: A disk that this driver leaves to Nova's own, and an agent.
DEVICES = (
    documents.rbd_disk('vms/a-namespace/8a6f3f5e_disk') + documents.CHANNEL
)


#: Each field of a request that Nova's own driver would pass over, with a value
#: that somebody may ask for, and how the refusal names it.
WISHES: dict[str, tuple[object, str]] = {
    'disks': (('vdy', 'vdz'), 'the disks vdy, vdz')
}


def taking(**wish: Any) -> Callable[..., Any]:
    """``SnapshotDriver.snapshot`` of a door that asks for more than Nova."""

    def snapshot(
        self: SnapshotDriver,
        context: Any,
        of: Any,
        image_id: str,
        update_task_state: Any,
        progress: Any = silent,
        cancellation: Any = None,
    ) -> Any:
        return self.take(
            Request(
                of,
                self._image(context, of, image_id),
                TaskStates(update_task_state),
                progress,
                cancellation,
                context,
                **wish,
            )
        )

    return snapshot


@ddt.ddt
class FallbackTest(NovaCase):
    def host(self, **how: Any) -> ComputeHost:
        host: ComputeHost = self.useFixture(ComputeHost(DEVICES, **how))
        return host

    def instance_of_upstream(self, host: ComputeHost) -> objects.Instance:
        """The instance with which Nova's own driver was called."""
        [((_, of, _, _), _)] = host.upstream_snapshot.calls
        self.assertEqual(documents.UUID, of.uuid)
        return of

    def test_each_wish_has_a_row(self) -> None:
        self.assertEqual(
            {
                field.name
                for field in dataclasses.fields(Request)
                if BEYOND_NOVA in field.metadata
            },
            WISHES.keys(),
        )

    @tables.rows({name: (name, *WISHES[name]) for name in WISHES})
    def test_wish_that_nova_would_pass_over(
        self, name: str, value: object, words: str
    ) -> None:
        host = self.host()
        before = host.before()
        self.patch(SnapshotDriver, 'snapshot', taking(**{name: value}))
        error = self.assertRaises(SnapshotFailed, host.take_and_clean_up)
        self.assertIn('request-not-supported', str(error))
        self.assertEqual([], host.upstream_snapshot.calls)
        self.assertEqual([], host.differences(before))
        self.assertNotIn(host.image, host.glance.images)
        self.assertIn(f'asks for {words}', host.log.output)

    def test_no_wish(self) -> None:
        """Nova's own driver takes the same snapshot then."""
        host = self.host()
        self.patch(SnapshotDriver, 'snapshot', taking())
        host.take()
        self.assertEqual(1, len(host.upstream_snapshot.calls))

    def test_freeze_that_is_forbidden(self) -> None:
        host = self.host()
        host.set('snapshot', 'quiesce', 'never')
        host.take()
        of = self.instance_of_upstream(host)
        self.assertRaises(
            nova_exception.QemuGuestAgentNotEnabled,
            host.compute._can_quiesce,
            of,
            of.image_meta,
        )
        # The instance in the database is another one.
        host.compute._can_quiesce(host.instance, host.instance.image_meta)

    def test_freeze_that_is_possible(self) -> None:
        host = self.host()
        host.take()
        self.assertIs(host.instance, self.instance_of_upstream(host))

    @tables.rows({'never': ('never',), 'auto': ('auto',)})
    def test_freeze_that_the_image_requires(self, policy: str) -> None:
        """The image's word is above that of the option."""
        host = self.host()
        host.set('snapshot', 'quiesce', policy)
        host.instance = instance(system_metadata=REQUIRES_QUIESCE)
        self.assertRaises(
            nova_exception.InstanceQuiesceFailed, host.take_and_clean_up
        )
        self.assertEqual([], host.upstream_snapshot.calls)
