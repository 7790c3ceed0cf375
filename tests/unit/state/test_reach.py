# SPDX-License-Identifier: Apache-2.0
"""Whether QEMU may enter the directories on its way."""

from __future__ import annotations

import os
import pathlib
import struct
import subprocess
import types

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor.domain import QemuUser
from nova_snapshot_driver.state import reach
from nova_snapshot_driver.state.workspace import Place
from tests.unit import tables

OPTION = '[a] option'

#: No account of this host has it.
NOBODY = 2_000_000_000

#: Of the account that is made up below.
UID, GID, OTHER_GID = 64_055, 108, 64_056


@ddt.ddt
class LabelTest(testtools.TestCase):
    @tables.rows(
        {
            'usual': ('+64055:+108', QemuUser(64055, 108)),
            'without_signs': ('0:0', QemuUser(0, 0)),
            'user_alone': ('+64055', QemuUser(64055)),
            'names': ('libvirt-qemu:kvm', None),
            'of_selinux': ('system_u:system_r:svirt_t:s0', None),
            'empty': ('', None),
            'none': (None, None),
        }
    )
    def test_user(self, label: str | None, user: QemuUser | None) -> None:
        self.assertEqual(user, QemuUser.from_label(label))


class ReachCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            self.skipTest('only root gives directories to others')
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.root.chmod(0o711)
        self.above = self.root / 'above'
        self.directory = self.above / 'snapshots'
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o711)
        self.useFixture(fixtures.MockPatchObject(reach, 'pwd', self))
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.state.reach.os.getgrouplist',
                lambda _name, gid: [gid, OTHER_GID],
            )
        )

    @staticmethod
    def getpwuid(uid: int) -> types.SimpleNamespace:
        names = {0: 'root', UID: 'libvirt-qemu'}
        return types.SimpleNamespace(pw_name=names[uid], pw_gid=GID)

    def require(self, user: QemuUser | None, path: pathlib.Path) -> None:
        reach.require(user, Place(str(path), OPTION))

    def shut(
        self, path: pathlib.Path, user: QemuUser | None = None
    ) -> exception.SnapshotError:
        error: exception.SnapshotError = self.assertRaises(
            exception.DirectoryShut,
            self.require,
            user or QemuUser(UID, GID),
            path,
        )
        return error


@ddt.ddt
class ModeTest(ReachCase):
    """The kernel looks at one class of the mode alone."""

    @tables.rows(
        {
            # Owner, group and mode, the user, and what the mode lacks.
            'others_may': (0, 0, 0o711, QemuUser(UID, GID), None),
            'others_may_not': (0, 0, 0o700, QemuUser(UID, GID), 'o+x'),
            'others_may_list_alone': (0, 0, 0o754, QemuUser(UID, GID), 'o+x'),
            'its_own': (UID, 0, 0o700, QemuUser(UID, GID), None),
            'its_own_and_shut': (UID, 0, 0o077, QemuUser(UID, GID), 'u+x'),
            'its_group': (0, GID, 0o710, QemuUser(UID, GID), None),
            'its_group_may_not': (0, GID, 0o701, QemuUser(UID, GID), 'g+x'),
            'another_group_of_its': (
                *(0, OTHER_GID, 0o710, QemuUser(UID, GID)),
                None,
            ),
            'group_unsaid': (0, GID, 0o710, QemuUser(UID), None),
            'foreign_group': (0, 5, 0o710, QemuUser(UID, GID), 'o+x'),
            'groups_unknown': (0, 5, 0o710, QemuUser(NOBODY, GID), None),
            'groups_unknown_and_none_may': (
                *(0, 5, 0o700, QemuUser(NOBODY, GID)),
                'o+x',
            ),
            'root': (UID, UID, 0o700, QemuUser(0, 0), None),
            'unsaid': (0, 0, 0o700, None, None),
        }
    )
    def test_mode(
        self,
        owner: int,
        group: int,
        mode: int,
        user: QemuUser | None,
        lacks: str | None,
    ) -> None:
        os.chown(self.above, owner, group)
        self.above.chmod(mode)
        if lacks is None:
            self.require(user, self.directory)
            return
        error = self.shut(self.directory, user)
        self.assertEqual(lacks, error.fields['bit'])
        self.assertEqual(str(self.above), error.fields['directory'])
        self.assertEqual(f'{mode:04o}', error.fields['mode'])
        self.assertEqual(str(self.directory), error.fields['path'])
        self.assertEqual(OPTION, error.fields['option'])

    def test_words(self) -> None:
        self.above.chmod(0o750)
        for words in (
            f'libvirt-qemu and may not enter {self.above}, which has the mode '
            '0750 and belongs to root',
            f'"chmod o+x {self.above}"',
            OPTION,
        ):
            self.assertIn(words, str(self.shut(self.directory)))

    def test_remedy(self) -> None:
        """The remedy works."""
        self.above.chmod(0o700)
        error = self.shut(self.directory)
        subprocess.run(
            ['chmod', error.fields['bit'], error.fields['directory']],
            check=True,
        )
        self.require(QemuUser(UID, GID), self.directory)


class PathTest(ReachCase):
    """Each directory on the way counts, wherever a link leads."""

    def test_each_component(self) -> None:
        for shut in (self.directory, self.above, self.root):
            shut.chmod(0o700)
            error = self.shut(self.directory)
            self.assertEqual(str(shut), error.fields['directory'])

    def test_yet_to_be_made(self) -> None:
        missing = self.directory / 'a' / 'b'
        self.require(QemuUser(UID, GID), missing)
        self.above.chmod(0o700)
        self.shut(missing)

    def test_link(self) -> None:
        other = self.root / 'other'
        other.mkdir(0o711)
        link = other / 'link'
        link.symlink_to(self.directory)
        self.require(QemuUser(UID, GID), link)
        self.above.chmod(0o700)
        self.shut(link)
        self.above.chmod(0o711)
        other.chmod(0o700)
        self.shut(link)

    def test_relative(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        self.above.chmod(0o700)
        self.shut(pathlib.Path('new'))

    def test_access_control_list(self) -> None:
        """The list may let in whom the mode does not: nothing is certain."""
        self.above.chmod(0o700)
        entries = [
            *((1, 7, 0xFFFFFFFF), (2, 1, UID), (4, 0, 0xFFFFFFFF)),
            *((16, 1, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)),
        ]
        value = struct.pack('<I', 2) + b''.join(
            struct.pack('<HHI', *entry) for entry in entries
        )
        try:
            os.setxattr(self.above, 'system.posix_acl_access', value)
        except OSError as error:
            self.skipTest(
                f'the file system has no access control lists: {error}'
            )
        self.require(QemuUser(UID, GID), self.directory)
