# SPDX-License-Identifier: Apache-2.0
"""The command line, on a domain whose root disk is a volume."""

from __future__ import annotations

import json
import os
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.cmd.shared import volume_backed
from nova_snapshot_driver.hypervisor import domain
from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result
from tests.unit.volumes_host import METADATA
from tests.unit.volumes_host import VolumesHost
from tests.unit.volumes_host import volume_disk

VOLUME = '5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2'

FILE = documents.file_disk('/var/lib/nova/mnt/0a1b/volume').replace(
    '</disk>', f'<serial>{VOLUME}</serial></disk>'
)


@ddt.ddt
class RootVolumeTest(testtools.TestCase):
    @tables.rows(
        {
            'in_ceph': (volume_disk(VOLUME, 'vda'), METADATA, VOLUME),
            'in_a_file': (FILE, METADATA, VOLUME),
            'not_by_nova': (volume_disk(VOLUME, 'vda'), '', VOLUME),
            'file_not_by_nova': (FILE, '', None),
            'from_an_image': (
                volume_disk(VOLUME, 'vda'),
                documents.METADATA,
                None,
            ),
            'no_serial': (documents.file_disk('/disk'), METADATA, None),
            'another_serial': (volume_disk('QM0001', 'vda'), METADATA, None),
            'no_disk': ('', METADATA, None),
        }
    )
    def test_root_volume(
        self, devices: str, metadata: str, expected: str | None
    ) -> None:
        found = domain.parse(documents.inactive(devices, metadata=metadata))
        self.assertEqual(expected, volume_backed.root_volume(found))


class CreateTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = VolumesHost(2)
        self.command = self.useFixture(CommandLine(host=self.host))
        self.host.glance.images.clear()
        self.useFixture(
            fixtures.MockPatchObject(
                cloud, 'of', lambda *_arguments: self.host.context
            )
        )
        self.before = self.host.before()

    def create(self, *arguments: str) -> Result:
        result: Result = self.command.run('create', documents.NAME, *arguments)
        return result

    def test_image(self) -> None:
        root = self.host.cinder.volumes[self.host.volumes[0]]
        root['volume_image_metadata'] = {
            'min_ram': '512',
            'min_disk': '2',
            'size': '21430272',
            'hw_disk_bus': 'virtio',
        }
        result = self.create('--format', 'json', '--name', 'nightly').json
        image = self.host.glance.images[result['image']]
        expected: dict[str, Any] = {
            'name': 'nightly',
            'status': 'active',
            'min_ram': 512,
            'min_disk': 2,
            'hw_disk_bus': 'virtio',
            'root_device_name': '/dev/vda',
            'bdm_v2': 'True',
            'snapshot_method': 'volumes',
        }
        self.assertEqual(
            expected, {name: image.get(name) for name in expected}
        )
        self.assertNotIn('instance_uuid', image)
        self.assertEqual(
            [
                (0, '/dev/vda', 'virtio', 1),
                (None, '/dev/vdb', 'virtio', 2),
            ],
            [
                tuple(
                    mapping[name]
                    for name in (
                        *('boot_index', 'device_name', 'disk_bus'),
                        'volume_size',
                    )
                )
                for mapping in json.loads(image['block_device_mapping'])
            ],
        )
        self.assertEqual(
            set(self.host.cinder.snapshots), set(result['volumes'].values())
        )
        self.assertEqual('volumes', result['method'])
        for made in self.host.cinder.snapshots.values():
            self.assertEqual('snapshot for nightly', made['name'])

    def test_in_words(self) -> None:
        result = self.create('--pause', 'always')
        self.assertEqual(0, result.status)
        for words in ('yes ([snapshot] pause)', 'Still for', 'Volume snaps'):
            self.assertIn(words, result.output)
        self.assertNotIn('Streamed', result.output)

    def test_to_a_file(self) -> None:
        path = str(self.host.root / 'image')
        result = self.create('--format', 'json', '--output', path)
        self.assertEqual('volume-backed', result.json['error']['code'])
        self.assertFalse(os.path.exists(path))

    def test_volume_is_not_there(self) -> None:
        del self.host.cinder.volumes[self.host.volumes[1]]
        result = self.create('--format', 'json')
        self.assertEqual('volume-not-found', result.json['error']['code'])
        self.assertEqual({}, self.host.glance.images)

    def test_check(self) -> None:
        result = self.command.run('check', documents.NAME, '--format', 'json')
        found = {each['subject']: each for each in result.json}
        plan = found[f'Domain {documents.NAME}']
        self.assertEqual('SUCCESS', plan['verdict'])
        self.assertIn('the root disk is a volume', plan['detail'])


class NoCinderTest(testtools.TestCase):
    def test_glance_alone(self) -> None:
        command = self.useFixture(CommandLine(host=VolumesHost(1)))
        result = command.to_glance(
            'create', documents.NAME, '--format', 'json'
        )
        self.assertEqual('no-cloud', result.json['error']['code'])
        self.assertIn('Cinder', result.json['error']['message'])
