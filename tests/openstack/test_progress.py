# SPDX-License-Identifier: Apache-2.0
"""The cloud's reports of a snapshot, while it is taken and afterwards."""

from __future__ import annotations

import itertools
from typing import Any
from typing import ClassVar

from openstack.image.v2.image import Image

from lab.bounded import wait_until
from tests.openstack import base
from tests.openstack import bus
from tests.openstack.bus import LEGACY
from tests.openstack.bus import VERSIONED
from tests.openstack.bus import Bus
from tests.openstack.bus import Notification

TASK_STATES = [
    'image_snapshot_pending',
    'image_snapshot',
    'image_pending_upload',
    'image_uploading',
    None,
]

#: Seconds in which Nova has said all, once the server has no task.
END_TIMEOUT = 30

#: Seconds between two looks.
POLL_INTERVAL = 0.05


class ProgressTest(base.ServerTest):
    # An image that requires a freeze lets the snapshot fail by one.
    properties: ClassVar[dict[str, Any]] = {
        'hw_qemu_guest_agent': 'yes',
        'os_require_quiesce': 'yes',
    }

    def setUp(self) -> None:
        super().setUp()
        self.bus = self.enterContext(Bus(self.cloud.rabbit_url))

    def snapshot_fails(self) -> Image:
        self.run_in_guest(self.server, 'touch /run/fail-freeze')
        image = self.ask_for_snapshot(self.server)
        self.wait_until_gone(image)
        self.wait_for_no_task(self.server.id)
        return image

    def last_action(self) -> Any:
        """The record of the last action that an administrator can read."""
        compute = self.admin.compute
        last = next(iter(compute.server_actions(self.server.id)))
        found: list[Any] = []

        def ended() -> bool:
            found[:] = [
                compute.get_server_action(last.request_id, self.server.id)
            ]
            return all(event.finish_time for event in found[0].events)

        wait_until(
            ended, f'the end of the action {last.action}', END_TIMEOUT, 0.2
        )
        return found[0]

    # A snapshot that succeeds

    def test_success(self) -> None:
        image = self.snapshot(self.server)
        found = self.bus.wait_for('instance.snapshot.end', self.server.id)
        self.assertEqual(TASK_STATES, bus.task_states(found))
        self.assertEqual(
            [
                (LEGACY, 'compute.instance.snapshot.start'),
                (VERSIONED, 'instance.snapshot.start'),
                (LEGACY, 'compute.instance.snapshot.end'),
                (VERSIONED, 'instance.snapshot.end'),
            ],
            [
                (each.topic, each.event)
                for each in found
                if 'snapshot' in each.event
            ],
        )
        self.assertEqual({'INFO'}, {each.priority for each in found})
        self.assertEqual([image.id] * 2, _snapshot_images(found))
        self._assert_successful_action()

    def test_polled(self) -> None:
        image = self.ask_for_snapshot(self.server)
        tasks: list[str | None] = []
        statuses: list[str] = []

        def ended() -> bool:
            server = self.demo.compute.get_server(self.server.id)
            tasks.append(server.task_state)
            statuses.append(self.demo.image.get_image(image.id).status)
            return server.task_state is None

        wait_until(
            ended,
            f'the end of the snapshot of {self.server.name}',
            base.SNAPSHOT_TIMEOUT,
            POLL_INTERVAL,
        )
        # A look may miss a state, but not all of them.
        self.assertTrue(_in_order(tasks, TASK_STATES), tasks)
        self.assertTrue({*TASK_STATES[2:-1]} & {*tasks}, tasks)
        self.assertTrue(
            _in_order(statuses, ['queued', 'saving', 'active']), statuses
        )
        self.assertEqual('active', statuses[-1])

    # A snapshot that fails

    def test_failure(self) -> None:
        image = self.snapshot_fails()
        # The last that Nova says.
        self.bus.wait_for('compute.exception')
        found = self.bus.of(self.server.id)
        self.assertEqual([*TASK_STATES[:3], None], bus.task_states(found))
        self.assertEqual([image.id], _snapshot_images(found))
        self.assertEqual(
            ['InstanceQuiesceFailed'],
            [
                each.payload['exception']
                for each in self.bus.notifications
                if each.event == 'compute.exception'
            ],
        )
        # Nova takes a snapshot for done when it is begun.
        self._assert_successful_action()
        self.assertIn('the guest agent fails', self.fault(self.server))

    def _assert_successful_action(self) -> None:
        action = self.last_action()
        self.assertEqual('createImage', action.action)
        self.assertIsNone(action.message)
        self.assertEqual(
            [('compute_snapshot_instance', 'Success')],
            [(event.event, event.result) for event in action.events],
        )

    def test_action_of_a_backup_that_fails(self) -> None:
        self.run_in_guest(self.server, 'touch /run/fail-freeze')
        image = self.demo.compute.backup_server(
            self.server.id, 'backup', 'daily', 1
        )
        self.addCleanup(self.admin.image.delete_image, image.id)
        self.wait_until_gone(image)
        # The last that Nova says; the next test is not to hear it.
        self.bus.wait_for('compute.exception')
        action = self.last_action()
        self.assertEqual('createBackup', action.action)
        self.assertEqual('Error', action.message)
        [event] = action.events
        self.assertEqual('compute_backup_instance', event.event)
        self.assertEqual('Error', event.result)
        self.assertIn('the guest agent fails', event.details)


def _in_order(seen: list[Any], expected: list[Any]) -> bool:
    """Whether nothing was seen but what is expected, in its order."""
    rest = iter(expected)
    return all(each in rest for each, _same in itertools.groupby(seen))


def _snapshot_images(notifications: list[Notification]) -> list[str]:
    return [
        each.payload['snapshot_image_id']
        for each in notifications
        if each.topic == VERSIONED and 'snapshot' in each.event
    ]
