# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import subprocess
import time

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import rbd
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.clients.rbd import CephSettings
from nova_snapshot_driver.clients.rbd import Clone
from nova_snapshot_driver.common.view import RbdImage
from tests.unit import tables
from tests.unit.transfer.commands import Commands

CLUSTER = '2bed3e4d-3a03-4f76-bb55-e5ce358310df'
DISK = RbdImage('vms', 'disk', 'nova')

#: As Ceph 16.2 says it, in the order in which it comes.
SAID = """\
2026-11-27T22:30:38.728+0000 7f46 -1 librbd::SnapshotUnprotectRequest: cannot
rbd: unprotecting snap failed: (16) Device or resource busy
2026-11-27T22:30:38.732+0000 7f46 -1 librbd::SnapshotUnprotectRequest: -16
"""

NO_KEY = """\
2026-11-27T22:30:39.728+0000 7fed -1 auth: unable to find a keyring on
/etc/ceph/ceph.client.nobody.keyring: (2) No such file or directory
rbd: couldn't connect to the cluster!
"""


DENIED = """\
2026-11-27T22:30:40.668+0000 7f32b35296c0 -1 librbd::image::CreateRequest
rbd: clone error: (1) Operation not permitted
"""

NO_CONF = """\
global_init: unable to open config file from search list /nonexistent
"""


@ddt.ddt
class FailureTest(testtools.TestCase):
    @tables.rows(
        {
            'missing': (errno.ENOENT, SAID, exception.CephNotFound),
            # The missing key has the status of a missing image.
            'no_key': (errno.ENOENT, NO_KEY, exception.CephError),
            'denied': (errno.EPERM, DENIED, exception.CephDenied),
            # The missing configuration has the status of a refusal.
            'no_conf': (errno.EPERM, NO_CONF, exception.CephError),
            'full': (errno.ENOSPC, SAID, exception.CephFull),
            'quota': (errno.EDQUOT, SAID, exception.CephFull),
            'silent': (errno.ETIMEDOUT, SAID, exception.CephTimeout),
            'else': (errno.EBUSY, SAID, exception.CephError),
        }
    )
    def test_kind(
        self, status: int, said: str, kind: type[exception.CephError]
    ) -> None:
        self.assertIs(kind, type(rbd.failure('rm', status, said)))

    @tables.rows(
        {
            'program': (SAID, 'unprotecting snap failed: (16)'),
            'library': ('first\nlast words\n', 'last words'),
            'nobody': ('', 'does not say why'),
        }
    )
    def test_reason(self, said: str, reason: str) -> None:
        self.assertIn(reason, str(rbd.failure('rm', 16, said)))


@ddt.ddt
class LocationTest(testtools.TestCase):
    @tables.rows(
        {
            'here': (f'rbd://{CLUSTER}/images/a/snap', 'images'),
            'quoted': (f'rbd://{CLUSTER}/my%2Fpool/a/snap', 'my/pool'),
            'elsewhere': ('rbd://another/images/a/snap', None),
            'no_snapshot': (f'rbd://{CLUSTER}/images/a', None),
            'blank': (f'rbd://{CLUSTER}//a/snap', None),
            'old': ('rbd://image', None),
            'file': ('file:///var/lib/glance/images/a', None),
            'nothing': ('', None),
        }
    )
    def test_pool(self, url: str, pool: str | None) -> None:
        self.assertEqual(pool, rbd.pool_in(url, CLUSTER))

    def test_of_a_clone(self) -> None:
        clone = Clone(DISK, 's', RbdImage('my/pool', 'a'), CLUSTER)
        self.assertEqual(f'rbd://{CLUSTER}/my%2Fpool/a/snap', clone.url)
        self.assertEqual('my/pool', rbd.pool_in(clone.url, CLUSTER))


class CommandTest(testtools.TestCase):
    """Real processes, of programs that are not Ceph's."""

    def setUp(self) -> None:
        super().setUp()
        self.commands = self.useFixture(Commands())
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.rbd.PATH',
                f'{self.commands.root / "bin"}:/bin',
            )
        )
        self.ceph = Ceph(CephSettings(), None)

    def test_one_that_is_late_is_ended(self) -> None:
        started = self.commands.root / 'started'
        self.commands.add('rbd', f'echo $$ >{started}\nexec sleep 60')
        begin = time.monotonic()
        error = self.assertRaises(
            exception.CephTimeout, self.ceph.create_snapshot, DISK, 's', 1
        )
        self.assertLess(time.monotonic() - begin, 30)
        self.assertIn('no end within 1 s', str(error))
        state = subprocess.run(
            ['/bin/ps', '-o', 'pid=', '-p', started.read_text().strip()],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual('', state.stdout)

    def test_error(self) -> None:
        self.commands.add('rbd', f"cat >&2 <<'END'\n{SAID}END\nexit 16")
        error = self.assertRaises(
            exception.CephError, self.ceph.protect, DISK, 's'
        )
        self.assertEqual(errno.EBUSY, error.fields['status'])
        self.assertIn('snap protect vms/disk', str(error))

    def test_missing(self) -> None:
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.rbd.PATH',
                str(self.commands.root),
            )
        )
        self.assertRaises(
            exception.CommandMissing, self.ceph.protect, DISK, 's'
        )

    def test_parent_of_newer_and_older_versions(self) -> None:
        self.commands.add(
            'rbd',
            'echo \'{"size": 7, "parent": {"pool": "images", "image": "a", '
            '"snapshot": "snap", "overlap": 7}}\'',
        )
        self.assertEqual(
            (RbdImage('images', 'a'), 'snap'), self.ceph.parent(DISK)
        )
        self.assertEqual(7, self.ceph.size(DISK))
