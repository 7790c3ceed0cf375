# SPDX-License-Identifier: Apache-2.0
"""The notifications of Nova's services on RabbitMQ."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any
from typing import Self

import kombu

from lab.bounded import wait_until

#: A typed package, whose functions are not typed.
_kombu: Any = kombu

#: Nova's ``control_exchange``.
EXCHANGE = 'nova'

LEGACY = 'notifications'
VERSIONED = 'versioned_notifications'

#: The priorities of those that tests are about.
PRIORITIES = ('info', 'error')

#: Seconds.
TIMEOUT = 30


@dataclasses.dataclass(frozen=True)
class Notification:
    """A notification of Nova.

    :ivar topic: :data:`LEGACY` or :data:`VERSIONED`
    :ivar event: its type, such as ``instance.snapshot.start``
    :ivar payload: of a versioned one without the names and versions of its
        objects
    :ivar time: when it was made, to be compared with that of others
    """

    topic: str
    event: str
    priority: str
    payload: dict[str, Any]
    time: str

    @property
    def server(self) -> str | None:
        """The id of the server that it is about."""
        legacy = self.payload.get('instance_id')
        found: str | None = self.payload.get('uuid', legacy)
        return found


class Bus:
    """All notifications that are sent while the context lasts.

    :param url: of RabbitMQ
    """

    def __init__(self, url: str) -> None:
        self._connection = _kombu.Connection(
            url.replace('rabbit://', 'amqp://', 1)
        )
        self._received: list[Notification] = []

    def __enter__(self) -> Self:
        channel = self._connection.channel()
        # Passive: a declaration that differs from Nova's is refused.
        exchange = _kombu.Exchange(EXCHANGE, 'topic', passive=True)
        queue = _kombu.Queue(
            exclusive=True,
            auto_delete=True,
            bindings=[
                _kombu.binding(exchange, f'{topic}.{priority}')
                for topic in (LEGACY, VERSIONED)
                for priority in PRIORITIES
            ],
        )
        self._consumer = _kombu.Consumer(
            channel, [queue], callbacks=[self._take], no_ack=True
        )
        self._consumer.consume()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.release()

    @property
    def notifications(self) -> list[Notification]:
        """All that have come, in the order in which they were made."""
        self._receive()
        return sorted(self._received, key=lambda received: received.time)

    def of(self, server: str | None) -> list[Notification]:
        """The notifications about a server.

        :param server: its id
        """
        return [
            found for found in self.notifications if found.server == server
        ]

    def wait_for(
        self, event: str, server: str | None = None
    ) -> list[Notification]:
        """Wait for a notification.

        :param server: the id of the server that it is about
        :returns: all that are about the server
        """
        wait_until(
            lambda: any(
                found.event == event and found.server == server
                for found in self.notifications
            ),
            f'the notification {event}',
            TIMEOUT,
        )
        return self.of(server)

    def _receive(self) -> None:
        try:
            while True:
                self._connection.drain_events(timeout=0.1)
        except TimeoutError:
            pass

    def _take(self, body: Any, message: Any) -> None:
        topic = message.delivery_info['routing_key'].partition('.')[0]
        content = json.loads(_parsed(body)['oslo.message'])
        self._received.append(
            Notification(
                topic=topic,
                event=content['event_type'],
                priority=content['priority'],
                payload=_plain(content['payload']),
                time=content['timestamp'],
            )
        )


def task_states(notifications: list[Notification]) -> list[str | None]:
    """The task states that a server came into, one after the other."""
    states = [
        notification.payload['state_update']['new_task_state']
        for notification in notifications
        if notification.event == 'instance.update'
    ]
    return [state for state, _same in itertools.groupby(states)]


def _parsed(body: Any) -> Any:
    return json.loads(body) if isinstance(body, str | bytes) else body


def _plain(value: Any) -> Any:
    """The values of versioned objects alone."""
    if isinstance(value, dict):
        value = value.get('nova_object.data', value)
        return {name: _plain(field) for name, field in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
