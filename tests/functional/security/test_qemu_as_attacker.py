# SPDX-License-Identifier: Apache-2.0
"""A guest that has got hold of its QEMU, and a driver that is root.

The attacker is a process of QEMU's user. What it does to the socket of a
backup job it does as soon as that is there.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import ddt

from lab.bounded import run
from lab.bounded import wait_until
from tests.functional.test_surroundings import NAME
from tests.functional.test_surroundings import TIMEOUT
from tests.functional.test_surroundings import SurroundingsCase
from tests.unit import tables

#: Waits for the socket in a directory of snapshots, and then does what it is
#: told to. A file of root's and the export of another guest are at hand.
ATTACKER = """\
import glob, os, sys, time
snapshots, secret, export, attack = sys.argv[1:]
deadline = time.monotonic() + 60
while not (found := glob.glob(snapshots + '/libvirt-*/s')):
    assert time.monotonic() < deadline, 'there is no socket'
[path] = found
directory = os.path.dirname(path)
exec(attack)
"""

#: The attacks that replace the socket.
IN_PLACE = {
    'link_to_a_file': (
        'os.rename(path, path + "real"); os.symlink(secret, path)'
    ),
    'link_to_an_export': (
        'os.rename(path, path + "real"); os.symlink(export, path)'
    ),
    'name_of_an_export': (
        'os.rename(path, path + "real"); os.link(export, path)'
    ),
    'export': 'os.rename(export, path)',
    'pipe': 'os.rename(path, path + "real"); os.mkfifo(path)',
    'file': 'os.rename(path, path + "real"); open(path, "w")',
    'directory': 'os.rename(path, path + "real"); os.mkdir(path)',
    'nothing': 'os.unlink(path)',
}

#: The litter that the attacker leaves in the directory.
LITTER = {
    'shut_directory': (
        'os.makedirs(directory + "/x/y"); os.chmod(directory + "/x", 0)'
    ),
    'shut': 'os.mkdir(directory + "/x"); os.chmod(directory, 0o300)',
    'file': 'open(directory + "/x", "w")',
}

#: How often it is tried to attack in time.
ATTEMPTS = 5

#: How a snapshot ends that has no other way.
REFUSALS = ('backup-refused', 'server-foreign', 'source-unreadable')


class AttackedCase(SurroundingsCase):
    def setUp(self) -> None:
        super().setUp()
        assert self.hypervisor.user is not None
        self.qemu = pwd.getpwnam(self.hypervisor.user)
        # The real one knows the path, which this one has to look for.
        self.snapshots.mkdir(parents=True)
        self.snapshots.chmod(0o755)
        self.snapshots.parent.chmod(0o755)
        self.secret = self.directory / 'shadow'
        self.secret.touch(0o600)
        self.export = self.serve_another_guest()

    def serve_another_guest(self) -> Path:
        """The export of another guest, whose QEMU has the same user."""
        place = self.directory / 'another'
        place.mkdir()
        disk = place / 'disk'
        disk.write_bytes(b'B' * (32 << 20))
        for path in (place, disk):
            os.chown(path, self.qemu.pw_uid, self.qemu.pw_gid)
        socket = place / 's'
        server = subprocess.Popen(
            [
                *('qemu-nbd', '-t', '-r', '-f', 'raw', '-x', 'vda'),
                *('-k', socket, disk),
            ],
            **self.as_qemu(),
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        wait_until(socket.exists, 'the export of another guest', TIMEOUT)
        return socket

    def as_qemu(self) -> dict[str, Any]:
        return {
            'user': self.qemu.pw_uid,
            'group': self.qemu.pw_gid,
            'extra_groups': [],
        }

    def attacked(self, attack: str, *arguments: str) -> tuple[int, str, str]:
        """Take a snapshot under an attack, which comes to its end."""
        attacker = subprocess.Popen(
            [
                *(sys.executable, '-c', ATTACKER),
                *(self.snapshots, self.secret, self.export, attack),
            ],
            **self.as_qemu(),
        )
        try:
            result = self.command(
                'create', NAME, '--output', self.image, *arguments
            )
            self.assertEqual(0, attacker.wait(TIMEOUT))
        finally:
            attacker.kill()
            attacker.wait()
        return result

    def clean_up_as_told(self) -> None:
        """The remedy that the operator is told for litter."""
        for path in self.snapshots.iterdir():
            run(['rm', '-r', path], timeout=TIMEOUT)


@ddt.ddt
class InPlaceOfTheSocketTest(AttackedCase):
    def attacked_in_time(self, attack: str, *arguments: str) -> str:
        """Attack a snapshot before the driver has claimed the socket.

        On a busy machine an attack may come too late. The image is the
        guest's own then.

        :returns: the output of the command, which has failed
        """
        for _attempt in range(ATTEMPTS):
            status, output, errors = self.attacked(
                attack, '--method', 'backup', *arguments
            )
            if status:
                self.assertEqual(1, status, errors)
                return output
            self.assert_complete()
            self.clean_up_as_told()
        raise AssertionError(f'{ATTEMPTS} attacks came too late')

    @tables.rows({name: (attack,) for name, attack in IN_PLACE.items()})
    def test_no_other_way(self, attack: str) -> None:
        """Nothing is read, and it is said why."""
        output = self.attacked_in_time(attack, '--format', 'json')
        error = json.loads(output)['error']
        self.assertIn(error['code'], REFUSALS)
        self.assertFalse(self.image.exists())
        self.assertEqual(0, self.secret.stat().st_uid)
        self.assertEqual(0o600, self.secret.stat().st_mode & 0o777)
        self.clean_up_as_told()

    def test_next_one_is_ours(self) -> None:
        """The guest is as it was, and QEMU itself is an honest one again."""
        self.attacked_in_time(IN_PLACE['link_to_an_export'])
        status, _output, errors = self.command(
            'create', NAME, '--output', self.image, '--method', 'backup'
        )
        self.assertEqual(0, status, errors)
        self.assert_complete()
        self.clean_up_as_told()


@ddt.ddt
class LitterTest(AttackedCase):
    @tables.rows({name: (attack,) for name, attack in LITTER.items()})
    def test_no_snapshot_is_stopped(self, attack: str) -> None:
        """No snapshot is stopped, now or later, and the log has the remedy."""
        status, _output, errors = self.attacked(attack, '--method', 'backup')
        self.assertEqual(0, status, errors)
        [litter] = self.snapshots.iterdir()
        self.assertIn(f'rm -r {litter}', errors)
        self.assert_complete()
        status, _output, errors = self.command(
            'create', NAME, '--output', self.image, '--method', 'backup'
        )
        self.assertEqual(0, status, errors)
        self.assert_complete()
        status, output, errors = self.command('recover')
        self.assertEqual(0, status, output + errors)
        self.clean_up_as_told()
