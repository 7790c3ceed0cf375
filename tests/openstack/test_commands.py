# SPDX-License-Identifier: Apache-2.0
"""The operator's view of nova-compute's snapshots, and how to stop one."""

from __future__ import annotations

import json
from typing import Any
from typing import ClassVar

from openstack.compute.v2.server import Server

from lab.bounded import run
from tests.openstack.held import HeldTest
from tests.openstack.held import Phase

COMMAND_TIMEOUT = 120


class CommandsTest(HeldTest):
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot()
        cls.addClassCleanup(cls.delete, cls.server)

    def _run(self, *arguments: str) -> Any:
        return json.loads(
            run(self.command(*arguments), timeout=COMMAND_TIMEOUT)
        )

    def test_progress(self) -> None:
        with self.held(Phase.STREAM, self.server) as image:
            [status] = self._run('status')['running']
        self.wait_for_image(image)
        self.assertEqual(
            {
                'uuid': self.server.id,
                'image': image.id,
                'file': None,
                'method': 'backup',
                'step': 'stream',
                'pid': self.cloud.compute.pid,
            },
            {
                name: status[name]
                for name in ('uuid', 'image', 'file', 'method', 'step', 'pid')
            },
        )
        self.assertLess(status['done'], status['total'])
        self.assertEqual([], self._run('status')['running'])
        # A line for its begin and one for its end: it took no minute.
        first, *others, last = self.log.grep(r' stream, \d+ % of \d+ MiB')
        self.assertEqual([], others)
        self.assertIn(' stream, 0 %', first)
        self.assertIn(' stream, 100 %', last)
        for line in (first, last):
            self.assertRegex(
                line, r' INFO nova_snapshot_driver.* req-[0-9a-f]'
            )
            self.assertIn(f'[instance: {self.server.id}]', line)

    def test_cancel(self) -> None:
        """Nova takes it for a failure: nobody has asked it to stop."""
        before = self.before(self.server)
        with self.held(Phase.STREAM, self.server) as image:
            cancelled = self._run('cancel', self.server.id)
            self.assertEqual(image.id, cancelled['image'])
            self.assertTrue(cancelled['given_back'])
            server = self.wait_for_failure(self.server, image)
        self.assertEqual('ACTIVE', server.status)
        self.assertIn('(cancelled-by-operator)', self.fault_of(self.server))
        self.assert_as_before(before)
        self.wait_for_records(self.server)
