# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import re
from typing import Any

import ddt
import fixtures
import libvirt
import testtools

from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result
from tests.unit.fake_data_plane import CONTENT
from tests.unit.fake_data_plane import TREE
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import unavailable

SHA512 = hashlib.sha512(CONTENT).hexdigest()


class CreateCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.host = self.command.host
        self.glance = self.host.glance
        # Only what the command itself has made is to be there.
        self.glance.images.clear()

    def create(self, *arguments: str) -> dict[str, object]:
        """Create an image; returns its record in Glance."""
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json', *arguments
        )
        self.assertEqual(0, result.status, result.errors)
        return self.glance.images[result.json['image']]


class RecordTest(CreateCase):
    def test_default_name(self) -> None:
        image = self.create()
        self.assertRegex(
            str(image['name']),
            rf'^{documents.NAME}-\d{{4}}-\d\d-\d\d-\d{{6}}$',
        )

    def test_name(self) -> None:
        self.assertEqual('nightly', self.create('--name', 'nightly')['name'])

    def test_domain_whose_name_glance_does_not_take(self) -> None:
        for name, begin in (
            ('n' * 300, 'n' * 237),
            ('web 🚀', 'web _'),
            ('я' * 255, 'я' * 237),
        ):
            self.useFixture(
                fixtures.MockPatchObject(
                    self.host.machine, 'name', name, spec=str
                )
            )
            found = self.command.to_glance(
                'create', documents.UUID, '--format', 'json'
            )
            self.assertEqual(0, found.status, found.errors)
            self.assertRegex(
                found.json['name'], rf'^{begin}-\d{{4}}-\d\d-\d\d-\d{{6}}$'
            )

    def test_domain_by_uuid(self) -> None:
        result = self.command.to_glance('create', documents.UUID)
        self.assertEqual(0, result.status)

    def test_what_nova_writes(self) -> None:
        image = self.create()
        self.assertEqual('active', image['status'])
        self.assertEqual('snapshot', image['image_type'])
        self.assertEqual(documents.UUID, image['instance_uuid'])
        self.assertEqual(documents.USER, image['user_id'])
        self.assertEqual(documents.PROJECT, image['owner_id'])
        self.assertEqual(documents.BASE_IMAGE, image['base_image_ref'])
        self.assertEqual('private', image['visibility'])
        self.assertEqual('available', image['image_state'])

    def test_disk_that_was_taken(self) -> None:
        image = self.create()
        self.assertEqual('vda', image['snapshot_disk'])
        self.assertEqual(str(2 << 30), image['snapshot_disk_size'])
        self.assertEqual('qcow2', image['snapshot_source_format'])
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json'
        )
        self.assertEqual('vda', result.json['disk'])
        self.assertEqual(2 << 30, result.json['disk_size'])
        self.assertEqual('qcow2', result.json['source_format'])
        result = self.command.to_glance('create', documents.NAME)
        self.assertIn('vda (qcow2, 2147483648 bytes)', result.output)

    def test_disk_of_which_libvirt_knows_no_size(self) -> None:
        """A refusal names the disk, and leaves no image."""
        machine = self.host.machine
        machine.stop()
        assert machine.config is not None
        machine.config = machine.config.replace(
            '<source file=', "<source fdgroup='a' file="
        )
        machine.refusals['blockInfo'] = 1
        result = self.command.to_glance('create', documents.NAME)
        self.assertEqual(1, result.status)
        self.assertIn('disk/source/@fdgroup=a', result.errors)
        self.assertEqual({}, self.glance.images)

    def test_disk_of_which_qemu_img_knows_the_size(self) -> None:
        """libvirt needs a package for Ceph to know it of a guest at rest."""
        self.host.machine.stop()
        self.host.machine.refusals['blockInfo'] = 2
        self.host.qemu_img.size = 3 << 30
        image = self.create()
        self.assertEqual(3, image['min_disk'])
        self.assertEqual(str(3 << 30), image['snapshot_disk_size'])

    def test_disk_of_two_gib(self) -> None:
        self.assertEqual(2, self.create()['min_disk'])
        self.assertEqual(0, self.create()['min_ram'])

    def test_disk_that_is_a_little_larger(self) -> None:
        self.useFixture(
            fixtures.MockPatch(
                'tests.unit.fake_libvirt.FakeDomain.blockInfo',
                return_value=[(2 << 30) + 1, 0, 0],
            )
        )
        self.assertEqual(3, self.create()['min_disk'])

    def test_domain_without_nova(self) -> None:
        config = self.host.machine.config
        assert config is not None
        self.host.machine.stop()
        self.host.machine.config = re.sub(
            '<metadata>.*</metadata>', '', config, flags=re.DOTALL
        )
        self.host.machine.start()
        image = self.create()
        for name in ('base_image_ref', 'user_id', 'owner_id'):
            self.assertNotIn(name, image)


@ddt.ddt
class ChosenNameTest(CreateCase):
    """A name that somebody has chosen is not changed."""

    @tables.rows(
        {
            'empty': ('',),
            'long': ('n' * 256,),
            'emoji': ('web 🚀',),
            'no_utf8': ('web\udcff',),
        }
    )
    def test_refused(self, name: str) -> None:
        result = self.command.to_glance(
            *('create', documents.NAME, '--name', name, '--format', 'json')
        )
        self.assertEqual(1, result.status)
        self.assertEqual('name-invalid', result.json['error']['code'])
        self.assertEqual([], self.glance.requests)
        self.assertEqual([], self.command.uris)

    def test_as_it_is(self) -> None:
        for name in ('я' * 255, ' a  b ', 'a/b'):
            self.assertEqual(name, self.create('--name', name)['name'])


class RefusedPropertiesTest(CreateCase):
    """Glance refuses properties."""

    def add_base(self, **fields: object) -> None:
        record = self.glance.images.pop(self.glance.add(**fields))
        self.glance.images[documents.BASE_IMAGE] = {
            **record,
            'id': documents.BASE_IMAGE,
        }

    def dropped(self, *arguments: str) -> list[str]:
        """The properties that a snapshot lacks; all others are there."""
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json', *arguments
        )
        self.assertEqual(0, result.status, result.errors)
        names: list[str] = result.json['properties_dropped']
        image = self.glance.images[result.json['image']]
        self.assertEqual('active', image['status'])
        for name in ('user_id', 'snapshot_method', 'image_state', 'owner_id'):
            self.assertEqual(name not in names, name in image, name)
        self.assertEqual('qcow2', image['disk_format'])
        self.assertEqual('private', image['visibility'])
        return names

    def test_none(self) -> None:
        self.assertEqual([], self.dropped())

    def test_at_the_record(self) -> None:
        self.glance.protected = {'user_id'}
        self.assertEqual(['user_id'], self.dropped())

    def test_at_the_end(self) -> None:
        self.glance.protected = {'snapshot_method', 'owner_id'}
        self.assertEqual(['owner_id', 'snapshot_method'], self.dropped())

    def test_inherited(self) -> None:
        self.add_base(com_example_licence='gold', hw_disk_bus='scsi')
        self.glance.protected = {'com_example_licence', 'user_id'}
        self.assertEqual(['com_example_licence', 'user_id'], self.dropped())
        (image,) = set(self.glance.images) - {documents.BASE_IMAGE}
        self.assertEqual('scsi', self.glance.images[image]['hw_disk_bus'])

    def test_too_many(self) -> None:
        self.glance.most_properties = 4
        self.assertEqual(
            {
                *('image_location', 'image_state', 'owner_id'),
                *('snapshot_method', 'snapshot_method_reason'),
                *('snapshot_quiesced', 'snapshot_quiesced_reason'),
                'snapshot_quiesced_file_systems',
                *('snapshot_disk', 'snapshot_disk_size'),
                'snapshot_source_format',
            },
            set(self.dropped()),
        )

    def test_it_is_said(self) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        self.glance.protected = {'snapshot_method'}
        result = self.command.to_glance('create', documents.NAME)
        self.assertEqual(0, result.status)
        self.assertRegex(
            ' '.join(result.output.split()),
            'Glance refused the properties snapshot_method',
        )
        self.assertIn('without the property snapshot_method', log.output)
        self.assertIn('is protected', log.output)
        self.assertIn('without the properties snapshot_method', log.output)

    def test_one_that_a_server_needs(self) -> None:
        self.add_base(hw_firmware_type='uefi')
        self.glance.protected = {'hw_firmware_type', 'user_id'}
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json'
        )
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('glance-error', error['code'])
        self.assertIn('hw_firmware_type', error['message'])
        self.assertEqual([documents.BASE_IMAGE], list(self.glance.images))

    def test_one_that_a_server_needs_left_out(self) -> None:
        """The remedy that the documentation has."""
        self.add_base(hw_firmware_type='uefi')
        self.glance.protected = {'hw_firmware_type'}
        self.command.config.write_text(
            '[DEFAULT]\nnon_inheritable_image_properties = hw_firmware_type\n'
        )
        self.assertEqual([], self.dropped())

    def test_glance_goes_away_meanwhile(self) -> None:
        """The record that was created by then is not left behind."""
        self.glance.protected = {'user_id'}
        create_or_refuse = self.glance._create

        def create(fields: dict[str, Any]) -> Answer:
            answer = create_or_refuse(fields)
            if answer.status == 201:
                # The next request but one is of the first property.
                number = len(self.glance.requests)
                self.glance.troubles[number + 2] = unavailable
            return answer

        self.useFixture(
            fixtures.MockPatchObject(self.glance, '_create', create)
        )
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json'
        )
        self.assertEqual('glance-unavailable', result.json['error']['code'])
        self.assertEqual({}, self.glance.images)


class BaseImageTest(CreateCase):
    def add_base(self, **fields: object) -> None:
        image = self.glance.add(**{'name': 'debian-12', **fields})
        record = self.glance.images.pop(image)
        self.glance.images[documents.BASE_IMAGE] = {
            **record,
            'id': documents.BASE_IMAGE,
        }

    def test_inherited(self) -> None:
        self.add_base(
            status='active',
            hw_disk_bus='scsi',
            os_type='linux',
            visibility='public',
            tags=['gold'],
            checksum='c0ffee',
            img_signature='signed',
            cache_in_nova='true',
            kernel_id='a-kernel',
            container_format='ovf',
        )
        image = self.create('--name', 'nightly')
        self.assertEqual('scsi', image['hw_disk_bus'])
        self.assertEqual('linux', image['os_type'])
        self.assertEqual('a-kernel', image['kernel_id'])
        self.assertEqual('ovf', image['container_format'])
        self.assertEqual('nightly', image['name'])
        self.assertEqual('private', image['visibility'])
        self.assertEqual([], image['tags'])
        self.assertIsNone(image['checksum'])
        for name in ('img_signature', 'cache_in_nova'):
            self.assertNotIn(name, image)

    def test_option_of_nova(self) -> None:
        self.command.config.write_text(
            '[DEFAULT]\nnon_inheritable_image_properties = os_distro\n'
        )
        self.add_base(os_distro='debian', os_version='12')
        image = self.create()
        self.assertNotIn('os_distro', image)
        self.assertEqual('12', image['os_version'])

    def test_hidden_base_image(self) -> None:
        """The owner has hidden the image alone, and not its snapshots."""
        self.add_base(os_hidden=True)
        self.assertFalse(self.create()['os_hidden'])

    def test_needs_of_the_base_image(self) -> None:
        self.add_base(min_disk=40, min_ram=512)
        image = self.create()
        self.assertEqual((40, 512), (image['min_disk'], image['min_ram']))

    def test_gone(self) -> None:
        self.assertEqual(documents.BASE_IMAGE, self.create()['base_image_ref'])

    def test_not_to_be_read(self) -> None:
        self.glance.troubles[1] = unavailable
        result = self.command.to_glance('create', documents.NAME)
        self.assertEqual(1, result.status)
        self.assertEqual({}, self.glance.images)


class ResultTest(CreateCase):
    def test_json(self) -> None:
        result = self.command.to_glance(
            *('create', documents.NAME, '--name', 'n', '--format', 'json')
        ).json
        (image,) = self.glance.images
        self.assertEqual(image, result['image'])
        self.assertEqual('n', result['name'])
        self.assertEqual(documents.NAME, result['domain'])
        self.assertEqual(documents.UUID, result['uuid'])
        self.assertEqual('backup', result['method'])
        self.assertIs(True, result['quiesced'])
        self.assertEqual(len(CONTENT), result['size'])
        self.assertEqual(SHA512, result['sha512'])
        self.assertEqual(
            ['prepare', 'capture', 'stream', 'give_back'],
            list(result['seconds']),
        )

    def test_in_words(self) -> None:
        output = self.command.to_glance('create', documents.NAME).output
        (image,) = self.glance.images
        for words in (
            image,
            documents.NAME,
            'backup (the guest is running)',
            'yes (by the guest agent, 1 file system)',
            f'{len(CONTENT)} bytes',
            SHA512[:40],
        ):
            self.assertIn(words, output)

    def test_failure_leaves_no_image(self) -> None:
        self.host.machine.job_dies_at = 1
        result = self.command.to_glance(
            'create', documents.NAME, '--method', 'mirror'
        )
        self.assertEqual(1, result.status)
        self.assertEqual({}, self.glance.images)

    def shut_down_for_ever(self) -> None:
        """Have a guest that is waited for until its bound, which is short."""
        self.host.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        self.command.config.write_text('[snapshot]\nshutdown_timeout = 1\n')

    def test_no_way_leaves_no_image(self) -> None:
        self.shut_down_for_ever()
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json'
        )
        self.assertEqual(1, result.status)
        self.assertEqual('not-supported', result.json['error']['code'])
        self.assertEqual({}, self.glance.images)

    def test_no_way_and_the_image_can_not_be_deleted(self) -> None:
        self.shut_down_for_ever()
        create = ('create', documents.NAME, '--format', 'json')
        refusal = self.command.to_glance(*create).json['error']['message']
        self.assertEqual('DELETE', self.glance.requests[-1].method)
        # Repeat the same requests, and refuse the last one.
        last = 2 * len(self.glance.requests)
        self.glance.troubles[last] = lambda: Answer(403)
        result = self.command.to_glance(*create)
        self.assertEqual(1, result.status)
        self.assertEqual(last, len(self.glance.requests))
        error = result.json['error']
        self.assertEqual('image-left-behind', error['code'])
        (image,) = self.glance.images
        self.assertEqual(image, error['fields']['image'])
        self.assertEqual(refusal, error['fields']['cause'])
        self.assertIn('Forbidden', error['fields']['reason'])
        self.assertIn(f'openstack image delete {image}', error['message'])

    def test_unknown_domain_leaves_no_image(self) -> None:
        result = self.command.to_glance('create', 'web-9')
        self.assertEqual(1, result.status)
        self.assertEqual([], self.glance.requests)

    def test_domain_that_is_not_utf8(self) -> None:
        result = self.command.to_glance(
            'create', 'web\udcff', '--format', 'json'
        )
        self.assertEqual('domain-not-found', result.json['error']['code'])

    def test_no_cloud(self) -> None:
        result = self.command.run('create', documents.NAME, '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('no-cloud', result.json['error']['code'])
        self.assertIn('--output', result.errors)


class OutputTest(CreateCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.host.root / 'web-1.qcow2'

    def test_json(self) -> None:
        result = self.command.run(
            *('create', documents.NAME, '--output', str(self.path)),
            *('--format', 'json'),
        )
        self.assertEqual(CONTENT, self.path.read_bytes())
        self.assertEqual(str(self.path), result.json['file'])
        for name in ('image', 'name', 'sha512'):
            self.assertIsNone(result.json[name])
        self.assertEqual([], self.glance.requests)

    def test_same_names_as_for_an_image(self) -> None:
        create = ('create', documents.NAME, '--format', 'json')
        to_file = self.command.run(*create, '--output', str(self.path))
        to_glance = self.command.to_glance(*create)
        self.assertEqual(list(to_glance.json), list(to_file.json))

    def test_in_words(self) -> None:
        result = self.command.run(
            'create', documents.NAME, '--output', str(self.path)
        )
        self.assertIn(self.path.name, result.output)
        self.assertNotIn('SHA-512', result.output)

    def test_no_name(self) -> None:
        """An empty name is not taken for an upload."""
        result = self.command.to_glance(
            *('create', documents.NAME, '--output', '', '--format', 'json')
        )
        self.assertEqual('output-exists', result.json['error']['code'])
        self.assertEqual([], self.glance.requests)

    def test_long_name(self) -> None:
        for name in ('x' * 255, 'я' * 127):
            image = self.host.root / name
            result = self.command.run(
                'create', documents.NAME, '--output', str(image)
            )
            self.assertEqual(0, result.status, result.errors)
            self.assertTrue(image.exists())
            image.unlink()

    def test_name_that_can_not_be(self) -> None:
        for name in ('x' * 256, 'я' * 128, 'd/' * 3000 + 'x'):
            result = self.command.run(
                *('create', documents.NAME, '--format', 'json'),
                *('--output', str(self.host.root / name)),
            )
            self.assertEqual(1, result.status)
            self.assertEqual('output-unusable', result.json['error']['code'])

    def test_existing_file(self) -> None:
        self.path.write_text('precious')
        result = self.command.run(
            'create', documents.NAME, '--output', str(self.path)
        )
        self.assertEqual(1, result.status)
        self.assertEqual('precious', self.path.read_text())


class SecretsTest(CreateCase):
    def test_secrets_of_the_domain_are_nowhere(self) -> None:
        result = self.command.to_glance('create', documents.NAME, '--verbose')
        everything = result.output + result.errors + self.host.log.output
        self.assertIn('is taken', everything)
        self.assertNotIn('s3cret', everything)


@ddt.ddt
class IntoTest(testtools.TestCase):
    """A chain of files gets the snapshot."""

    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.chain = self.command.host.root / 'chain'

    def create(self, *arguments: str) -> Result:
        return self.command.run(
            'create', documents.NAME, '--into', str(self.chain), *arguments
        )

    def test_json(self) -> None:
        self.create('--name', 'monday')
        result = self.create('--name', 'tuesday', '--format', 'json')
        self.assertEqual(0, result.status, result.errors)
        self.assertEqual(
            (None, 'tuesday', str(self.chain / 'tuesday.qcow2')),
            tuple(result.json[name] for name in ('image', 'name', 'file')),
        )
        self.assertEqual(
            {
                'name': 'tuesday',
                'file': str(self.chain / 'tuesday.qcow2'),
                'parent': 'monday',
                'way': 'bitmap',
                'reason': 'QEMU has recorded the changes',
                'public_reason': 'QEMU has recorded the changes',
                'changed': 65536,
                'written': len(CONTENT),
                'tree': TREE,
                'volume': None,
                'snapshot': None,
            },
            result.json['increment'],
        )

    def test_words(self) -> None:
        result = self.create('--name', 'monday')
        self.assertIn('full (it is the first one)', result.output)
        result = self.create('--name', 'tuesday')
        self.assertIn(
            'increment of monday: 1 MiB changed, by bitmap', result.output
        )

    def test_image_has_none(self) -> None:
        result = self.command.to_glance(
            'create', documents.NAME, '--format', 'json'
        )
        self.assertIsNone(result.json['increment'])

    @tables.rows(
        {
            'output': ('--output', 'file'),
            'format': ('--image-format', 'raw'),
            'compression': ('--compress',),
            'pause': ('--pause', 'never'),
        }
    )
    def test_option_of_no_use(self, *arguments: str) -> None:
        result = self.create(*arguments, '--format', 'json')
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('option-refused', error['code'])
        self.assertIn(f'{arguments[0]} is of no use', error['message'])
        self.assertFalse(self.chain.exists())

    def test_format_of_all(self) -> None:
        result = self.create('--image-format', 'qcow2')
        self.assertEqual(0, result.status, result.errors)

    def test_illegal_name(self) -> None:
        result = self.create('--name', '../monday')
        self.assertEqual(1, result.status)
        self.assertIn('No snapshot in', result.errors)
