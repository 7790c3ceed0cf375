# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import os
import stat

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.transfer import convert
from nova_snapshot_driver.transfer.job import view_to_dict
from nova_snapshot_driver.view import Export
from nova_snapshot_driver.view import View
from tests.unit.transfer.commands import Commands
from tests.unit.transfer.fake_parent import FakeParent

DELTA = Layer('/delta', 'qcow2')
RAW = Encoding('raw')

#: Says what it was called with, one argument a line, in its target.
QEMU_IMG = """\
for last; do :; done
printf '%s\\n' "$@" >"$last"
"""


class ConvertTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.commands = self.useFixture(Commands())
        self.target = self.commands.root / 'image'
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.parent = FakeParent()

    def convert(
        self,
        view: View = DELTA,
        encoding: Encoding = RAW,
        bandwidth: int = 0,
    ) -> list[str]:
        result = convert.run(
            {
                'view': view_to_dict(view),
                'target': {
                    'path': str(self.target),
                    'format': encoding.format,
                },
                'encoding': dataclasses.asdict(encoding),
                'bandwidth': bandwidth,
            },
            self.parent,
        )
        self.assertEqual({}, result)
        return self.target.read_text().split('\n')[:-1]

    def test_formats_are_given(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        arguments = ' '.join(self.convert())
        self.assertTrue(arguments.startswith('convert '))
        self.assertTrue(
            arguments.endswith(f' -O raw -f qcow2 /delta {self.target}')
        )

    def test_compressed(self) -> None:
        """Blocks in any order can't be compressed."""
        self.commands.add('qemu-img', QEMU_IMG)
        self.assertIn('-W', self.convert())
        arguments = self.convert(encoding=Encoding('qcow2', 'zlib'))
        self.assertIn('-c', arguments)
        self.assertIn('compression_type=zlib', arguments)
        self.assertNotIn('-W', arguments)

    def test_bandwidth(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        self.assertNotIn('-r', self.convert())
        arguments = self.convert(bandwidth=5 << 20)
        self.assertEqual('5242880', arguments[arguments.index('-r') + 1])

    def test_export(self) -> None:
        """Its content is not probed, whatever it looks like."""
        self.commands.add('qemu-img', QEMU_IMG)
        arguments = self.convert(Export('/run/a,b/socket', 'vda'))
        self.assertEqual(
            [
                '--image-opts',
                'driver=raw,file.driver=nbd,file.server.type=unix,'
                'file.server.path=/run/a,,b/socket,file.export=vda',
                str(self.target),
            ],
            arguments[-3:],
        )

    def test_image_is_for_its_owner_alone(self) -> None:
        self.commands.add('qemu-img', QEMU_IMG)
        self.convert()
        mode = stat.S_IMODE(self.target.stat().st_mode)
        self.assertEqual(0o600, mode)

    def test_progress(self) -> None:
        self.commands.add(
            'qemu-img',
            r"printf '    (0.00/100%%)\r    (12.34/100%%)\r'"
            '\n'
            r"printf '    (100.00/100%%)\r\n'"
            f'\n{QEMU_IMG}',
        )
        self.convert()
        self.assertEqual(
            [(0, 10000), (1234, 10000), (10000, 10000)], self.parent.told
        )

    def test_failure(self) -> None:
        self.commands.add(
            'qemu-img', 'echo "No space left on device" >&2\nexit 3'
        )
        error = self.assertRaises(exception.CommandFailed, self.convert)
        self.assertEqual(
            {
                'command': 'qemu-img convert',
                'status': 3,
                'reason': 'No space left on device',
            },
            error.fields,
        )

    def test_much_to_complain_about(self) -> None:
        """Nobody reads it before the end, and yet nothing blocks."""
        self.commands.add(
            'qemu-img',
            'i=0; while [ $i -lt 4000 ]; do\n'
            'echo "a line that is long enough to fill the pipe" >&2\n'
            'i=$((i + 1)); done; exit 1',
        )
        error = self.assertRaises(exception.CommandFailed, self.convert)
        self.assertEqual(exception.LONGEST_FIELD, len(error.fields['reason']))

    def test_not_installed(self) -> None:
        error = self.assertRaises(exception.CommandMissing, self.convert)
        self.assertIn('qemu-utils', str(error))
