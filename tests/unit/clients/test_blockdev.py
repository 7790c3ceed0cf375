# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import ddt
import testtools

from nova_snapshot_driver.clients import blockdev
from nova_snapshot_driver.common.view import Layer
from tests.unit import tables

LOWEST = Layer('/lowest', 'raw', is_last=True)


def named(image: Layer) -> Any:
    (argument,) = blockdev.arguments(image)
    kind, _, text = argument.partition(':')
    assert kind == 'json', argument
    return json.loads(text)


@ddt.ddt
class ArgumentsTest(testtools.TestCase):
    @tables.rows(
        {
            'header_has_the_rest': (Layer('/a', 'qcow2'),),
            'raw': (Layer('/a', 'raw'),),
            'raw_and_last': (Layer('/a', 'raw', is_last=True),),
            'ceph': (Layer('rbd:vms/a', 'raw', is_last=True),),
        }
    )
    def test_nothing_but_a_format(self, image: Layer) -> None:
        self.assertEqual(
            ['-f', image.format, image.path], blockdev.arguments(image)
        )

    def test_last_one(self) -> None:
        self.assertEqual(
            {
                'driver': 'qcow2',
                'file': {'filename': '/a'},
                'backing': None,
            },
            named(Layer('/a', 'qcow2', is_last=True)),
        )

    def test_chain(self) -> None:
        middle = Layer('/middle', 'qcow2', backing=LOWEST)
        self.assertEqual(
            {
                'driver': 'qcow2',
                'file': {'filename': '/a'},
                'backing': {
                    'driver': 'qcow2',
                    'file': {'filename': '/middle'},
                    'backing': {
                        'driver': 'raw',
                        'file': {'filename': '/lowest'},
                        'backing': None,
                    },
                },
            },
            named(Layer('/a', 'qcow2', backing=middle)),
        )

    def test_chain_that_is_left_open(self) -> None:
        middle = Layer('/middle', 'qcow2')
        self.assertNotIn(
            'backing', named(Layer('/a', 'qcow2', backing=middle))['backing']
        )

    @tables.rows(
        {
            'qcow2': ('qcow2', {'encrypt.key-secret': 'passphrase'}),
            'raw': ('raw', {'driver': 'luks', 'key-secret': 'passphrase'}),
        }
    )
    def test_encrypted(self, image_format: str, how: dict[str, str]) -> None:
        options = named(Layer('/a', image_format, 'c2VjcmV0'))
        self.assertEqual(
            {'driver': image_format, 'file': {'filename': '/a'}, **how},
            options,
        )

    def test_strange_name(self) -> None:
        path = '/a,b:c %20 é="d"/json:{}'
        options = named(Layer(path, 'qcow2', is_last=True))
        self.assertEqual(path, options['file']['filename'])
