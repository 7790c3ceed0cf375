# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import os

import fixtures
import testtools

from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.transfer import layer
from nova_snapshot_driver.view import Export

PASSPHRASE = b's3cret'


class ArgumentsTest(testtools.TestCase):
    def test_layer(self) -> None:
        with layer.arguments(Layer('/disk', 'qcow2')) as (
            arguments,
            inherited,
        ):
            self.assertEqual(['-f', 'qcow2', '/disk'], arguments)
            self.assertEqual((), inherited)

    def test_export(self) -> None:
        with layer.arguments(Export('/a,b', 'vda')) as (arguments, inherited):
            self.assertEqual(
                [
                    '--image-opts',
                    'driver=raw,file.driver=nbd,file.server.type=unix,'
                    'file.server.path=/a,,b,file.export=vda',
                ],
                arguments,
            )
            self.assertEqual((), inherited)

    def test_passphrase_is_nowhere_but_in_a_descriptor(self) -> None:
        directory = self.useFixture(fixtures.TempDir()).path
        path = os.path.join(directory, 'a, b')
        open(path, 'w').close()
        encoded = base64.b64encode(PASSPHRASE).decode()
        disk = Layer(path, 'qcow2', encoded)
        with layer.arguments(disk) as (arguments, (descriptor,)):
            for secret in (PASSPHRASE.decode(), encoded):
                self.assertNotIn(secret, ' '.join(arguments) + repr(disk))
            self.assertIn(f'/proc/self/fd/{descriptor}', arguments[1])
            self.assertIn(path.replace(',', ',,'), arguments[-1])
            with open(f'/proc/self/fd/{descriptor}', 'rb') as file:
                self.assertEqual(PASSPHRASE, file.read())
            self.assertTrue(os.get_inheritable(descriptor))
        self.assertRaises(OSError, os.fstat, descriptor)
        self.assertEqual(['a, b'], os.listdir(directory))
