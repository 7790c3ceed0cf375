# SPDX-License-Identifier: Apache-2.0
"""Keystone's tokens: they expire while an image is uploaded, and leak not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import ClassVar

from openstack.compute.v2.server import Server

from lab.bounded import wait_until
from lab.proxy import Stall
from tests.openstack.held import MIB
from tests.openstack.held import HeldTest
from tests.openstack.held import Phase

#: Seconds for which a token is valid: enough for what comes before an upload.
LIFETIME = 15

TOKENS = ('X-Auth-Token', 'X-Service-Token')

#: The beginning of Keystone's tokens.
TOKEN = re.compile(r'gAAAAA[\w-]{20}')


class IdentityTest(HeldTest):
    """Tokens expire soon.

    nova-compute vouches for the user's token with its own.
    """

    cloud_options: ClassVar[dict[str, Any]] = {'token_lifetime': LIFETIME}
    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot()
        cls.addClassCleanup(cls.delete, cls.server)

    def test_upload_outlives_its_tokens(self) -> None:
        """The image is proven with another service token."""
        before = self.before(self.server)
        earliest = self.records(self.server)
        earlier = len(self.proxy.uploads)
        with self.held(Phase.STREAM, self.server) as image:
            for token in self._tokens().values():
                self._wait_until_expired(token)
        self.examine(self.wait_for_image(image), earliest)
        self.assertEqual(earlier + 1, len(self.proxy.uploads))
        self.assert_as_before(before)

    def test_upload_begins_again_with_an_expired_token(self) -> None:
        """Nova's driver does so too; here nothing of the image is lost."""
        before = self.before(self.server)
        earliest = self.records(self.server)
        earlier = len(self.proxy.uploads)
        self.proxy.inject(Stall(MIB), times=1)
        image = self.ask_for_snapshot(self.server)
        self.wait_for_upload(earlier)
        first = self._tokens()
        self.assertEqual(set(TOKENS), set(first))
        for token in first.values():
            self._wait_until_expired(token)
        self.proxy.heal()
        self.examine(self.wait_for_image(image), earliest)
        second = self._tokens()
        # Nobody but the user can renew the one.
        self.assertEqual(first['X-Auth-Token'], second['X-Auth-Token'])
        self.assertNotEqual(
            first['X-Service-Token'], second['X-Service-Token']
        )
        self.assert_as_before(before)

    def test_upload_outlives_the_token_of_the_user_alone(self) -> None:
        """The image is complete, but can be neither proven nor deleted.

        That is without ``[service_user] send_service_user_token``. The
        snapshot has failed then, and the log of nova-compute names the image.
        Nova's driver asks Glance for nothing after the upload, and takes the
        image for good.
        """
        self.configure({('service_user', 'send_service_user_token'): False})
        before = self.before(self.server)
        with self.held(Phase.STREAM, self.server) as image:
            self.assertEqual({'X-Auth-Token'}, set(self._tokens()))
            self._wait_until_expired(self._tokens()['X-Auth-Token'])
        line = self.log.wait('Snapshot failed', 3 * LIFETIME)
        self.assertIn(f'openstack image delete {image.id}', line)
        self.wait_for_no_task(self.server.id)
        self.assertIn('(glance-error)', self.fault_of(self.server))
        self.assertEqual('active', self.demo.image.get_image(image.id).status)
        # The journal knows of it until nova-compute has looked after it.
        self.configure({})
        self.assert_as_before(before)

    def test_no_token_is_to_be_seen(self) -> None:
        """No token is in a log, or visible to other users of the host."""
        logs = [
            self.cloud.log(file.stem)
            for file in self.cloud.log_directory.glob('*.log')
        ]
        with self.held(Phase.STREAM, self.server) as image:
            tokens = self._tokens().values()
            self.assertTrue(self.data_plane())
            for path in self._visible():
                content = path.read_bytes()
                for token in tokens:
                    self.assertNotIn(token.encode(), content, str(path))
        self.wait_for_image(image)
        for log in logs:
            for token in tokens:
                self.assertRegex(token, TOKEN)
                self.assertNotIn(token, log.text, str(log.path))
        # The tokens of Nova itself are not known here, but look the same.
        self.assertIn(self.server.id, self.log.text)
        self.assertEqual([], self.log.grep(TOKEN.pattern))

    def _visible(self) -> Iterator[Path]:
        """The visible parts of the data plane, and the files on the disk."""
        for process in self.data_plane():
            for name in ('cmdline', 'environ'):
                yield Path(f'/proc/{process}/{name}')
        for directory in (
            self.directories.state,
            self.directories.snapshots,
        ):
            for file in Path(directory).rglob('*'):
                if file.is_file():
                    yield file

    def _tokens(self) -> dict[str, str]:
        """The tokens of the upload that began last, by header."""
        headers = self.proxy.uploads[-1].headers
        return {name: headers[name] for name in TOKENS if name in headers}

    def _wait_until_expired(self, token: str) -> None:
        """Wait until Keystone does not know a token any more."""

        def is_expired() -> bool:
            answer = self.admin.session.get(
                f'{self.cloud.keystone_url}/auth/tokens',
                headers={'X-Subject-Token': token},
                raise_exc=False,
            )
            return bool(answer.status_code == 404)

        wait_until(is_expired, 'a token to expire', 3 * LIFETIME, 0.5)
