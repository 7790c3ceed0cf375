# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import dataclasses
import os
import stat

import fixtures
import testtools

from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.transfer.nbd import image_options
from tests.unit.transfer import disks

PASSPHRASE = b's3cret'


class ArgumentsTest(testtools.TestCase):
    def test_layer(self) -> None:
        with image_options.arguments(Layer('/disk', 'qcow2')) as (
            arguments,
            inherited,
        ):
            self.assertEqual(['-f', 'qcow2', '/disk'], arguments)
            self.assertEqual((), inherited)

    def test_export(self) -> None:
        """The tool gets a connection, and no path that it could follow."""
        served = self.useFixture(disks.Disks())
        export = served.serve(served.raw(1 << 20))
        named = dataclasses.replace(export, name='vda,b')
        with image_options.arguments(named) as (arguments, (descriptor,)):
            self.assertEqual(
                [
                    '--image-opts',
                    'driver=raw,size=1048576,file.driver=nbd,file.server.type=fd,'
                    f'file.server.str={descriptor},file.export=vda,,b',
                ],
                arguments,
            )
            self.assertTrue(stat.S_ISSOCK(os.fstat(descriptor).st_mode))
            self.assertTrue(os.get_inheritable(descriptor))
        self.assertRaises(OSError, os.fstat, descriptor)

    def test_passphrase_is_nowhere_but_in_a_descriptor(self) -> None:
        directory = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(directory, 'a, b')
        open(path, 'w').close()
        encoded = base64.b64encode(PASSPHRASE).decode()
        disk = Layer(path, 'qcow2', encoded)
        with image_options.arguments(disk) as (arguments, (descriptor,)):
            for secret in (PASSPHRASE.decode(), encoded):
                self.assertNotIn(secret, ' '.join(arguments) + repr(disk))
            self.assertIn(f'/proc/self/fd/{descriptor}', arguments[1])
            self.assertIn(path, arguments[-1])
            with open(f'/proc/self/fd/{descriptor}', 'rb') as file:
                self.assertEqual(PASSPHRASE, file.read())
            self.assertTrue(os.get_inheritable(descriptor))
        self.assertRaises(OSError, os.fstat, descriptor)
        self.assertEqual(['a, b'], os.listdir(directory))
