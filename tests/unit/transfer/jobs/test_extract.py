# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs import extract
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.nbd.bounds import Bounds
from tests.unit.transfer import disks
from tests.unit.transfer.commands import Commands
from tests.unit.transfer.fake_parent import FakeParent

DELTA = Layer('/delta', 'qcow2')
RAW = Encoding('raw')

#: Says what it was called with, one argument a line, in its target. That is
#: named by a descriptor.
QEMU_IMG = """\
for last; do :; done
printf '%s\\n' "$@" >"$last"
"""


class ExportTest(testtools.TestCase):
    """``qemu-img`` itself reads by the connection that it is handed."""

    def test_content_is_not_probed(self) -> None:
        served = self.useFixture(disks.Disks())
        disk = served.raw(1 << 20, [(4096, disks.noise(8192))])
        hostile = Layer(served.qcow2(disk).path, 'raw')
        target = Layer(str(served.root / 'image'), 'raw')
        extract.run(
            Extract(served.serve(hostile), RAW, target.path),
            Bounds(),
            FakeParent(),
        )
        disks.assert_same(hostile, target)


class ExtractTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.commands = self.useFixture(Commands())
        self.target = self.commands.root / 'image'
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.parent = FakeParent()

    def extract(
        self,
        view: View = DELTA,
        encoding: Encoding = RAW,
        bandwidth: int = 0,
    ) -> list[str]:
        result = extract.run(
            Extract(view, encoding, str(self.target)),
            Bounds(bandwidth),
            self.parent,
        )
        self.assertEqual({}, result)
        return self.target.read_text().split('\n')[:-1]

    def test_formats_are_given(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        arguments = ' '.join(self.extract())
        self.assertTrue(arguments.startswith('convert '))
        self.assertRegex(
            arguments, r' -O raw -f qcow2 /delta /proc/self/fd/\d+$'
        )

    def test_compressed(self) -> None:
        """Blocks in any order can't be compressed."""
        self.commands.add('qemu-img', QEMU_IMG)
        self.assertIn('-W', self.extract())
        arguments = self.extract(encoding=Encoding('qcow2', 'zlib'))
        self.assertIn('-c', arguments)
        self.assertIn('compression_type=zlib', arguments)
        self.assertNotIn('-W', arguments)

    def test_bandwidth(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        self.assertNotIn('-r', self.extract())
        arguments = self.extract(bandwidth=5 << 20)
        self.assertEqual('5242880', arguments[arguments.index('-r') + 1])

    def test_image_is_for_its_owner_alone(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        self.extract()
        mode = stat.S_IMODE(self.target.stat().st_mode)
        self.assertEqual(0o600, mode)

    def test_link_is_not_followed(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        victim = self.commands.root / 'victim'
        victim.write_text('precious')
        self.target.symlink_to(victim)
        error = self.assertRaises(exception.CommandFailed, self.extract)
        self.assertIn(str(self.target), str(error))
        self.assertEqual('precious', victim.read_text())

    def test_link_that_comes_later_is_not_followed(self) -> None:
        victim = self.commands.root / 'victim'
        victim.write_text('precious')
        self.commands.add(
            'qemu-img',
            f'/bin/rm {self.target}\n/bin/ln -s {victim} {self.target}\n'
            + QEMU_IMG,
        )
        self.extract()
        self.assertEqual('precious', victim.read_text())

    def test_failure_names_the_target(self) -> None:
        self.commands.add(
            'qemu-img', 'for last; do :; done\necho "$last: no" >&2\nexit 1'
        )
        error = self.assertRaises(exception.CommandFailed, self.extract)
        self.assertIn(f'{self.target}: no', str(error))

    def test_progress(self) -> None:
        self.commands.add(
            'qemu-img',
            r"printf '    (0.00/100%%)\r    (12.34/100%%)\r'"
            '\n'
            r"printf '    (100.00/100%%)\r\n'"
            f'\n{QEMU_IMG}',
        )
        self.extract()
        self.assertEqual(
            [(0, 10000), (1234, 10000), (10000, 10000)], self.parent.told
        )

    def test_failure(self) -> None:
        self.commands.add(
            'qemu-img', 'echo "No space left on device" >&2\nexit 3'
        )
        error = self.assertRaises(exception.CommandFailed, self.extract)
        self.assertEqual(
            {
                'command': 'qemu-img convert',
                'status': 3,
                'reason': 'No space left on device',
            },
            error.fields,
        )

    def test_signal(self) -> None:
        """The kernel ends it so at a limit of the shell."""
        self.commands.add('qemu-img', 'kill -XFSZ $$')
        error = self.assertRaises(exception.CommandFailed, self.extract)
        self.assertIn('File size limit exceeded', error.fields['reason'])

    def test_much_to_complain_about(self) -> None:
        """Nobody reads it before the end, and yet nothing blocks."""
        self.commands.add(
            'qemu-img',
            'i=0; while [ $i -lt 4000 ]; do\n'
            'echo "a line that is long enough to fill the pipe" >&2\n'
            'i=$((i + 1)); done; exit 1',
        )
        error = self.assertRaises(exception.CommandFailed, self.extract)
        self.assertEqual(exception.LONGEST_FIELD, len(error.fields['reason']))

    def test_not_installed(self) -> None:
        error = self.assertRaises(exception.CommandMissing, self.extract)
        self.assertIn('qemu-utils', str(error))
