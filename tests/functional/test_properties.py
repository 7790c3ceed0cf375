# SPDX-License-Identifier: Apache-2.0
"""Names and properties that a real Glance takes, and refuses."""

from __future__ import annotations

from typing import Any
from typing import ClassVar

from oslotest import base as oslotest_base

from lab import glance
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.common import naming
from nova_snapshot_driver.snapshot.destination import metadata
from tests.functional import base

#: Nobody may write the first two; the others are for everybody.
PROTECTIONS = """\
[^(snapshot_method|hw_firmware_type)$]
create = !
read = @
update = !
delete = !
[.*]
create = @
read = @
update = @
delete = @
"""

#: As many as an image may have.
QUOTA = 6

NAMES = (
    'web-1',
    'снимок',
    'a\tb',
    'n' * 255,
    'я' * 255,
    'n' * 256,
    'web 🚀',
    '🚀' * 255,
)


class PropertiesTest(oslotest_base.BaseTestCase):
    server: ClassVar[glance.Glance]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = base.scratch_directory() / 'refusing-glance'
        directory.mkdir(parents=True)
        protections = directory / 'protections.conf'
        protections.write_text(PROTECTIONS)
        cls.server = glance.Glance(
            directory,
            {
                ('DEFAULT', 'property_protection_file'): protections,
                ('DEFAULT', 'property_protection_rule_format'): 'roles',
                ('DEFAULT', 'image_property_quota'): QUOTA,
            },
        )
        cls.addClassCleanup(cls.server.discard)
        cls.server.start()

    def setUp(self) -> None:
        super().setUp()
        self.glance = Glance(GlanceAccess(self.server.url))

    def create(self, name: str = 'a name', **properties: Any) -> str:
        image = self.glance.create(name=name, **properties)
        self.addCleanup(self.glance.delete, image.id)
        return image.id

    def write(self, **properties: str) -> tuple[set[str], dict[str, Any]]:
        """The refused properties, and those that the image has then."""
        image = self.create()
        dropped = metadata.write(self.glance, image, properties)
        return set(dropped), self.glance.get(image).properties

    def refusal(self, **properties: str) -> str:
        """Why a property that is needed costs the snapshot."""
        error = self.assertRaises(
            exception.GlanceError, self.write, **properties
        )
        self.assertNotIsInstance(error, exception.GlanceUnavailable)
        self.assertTrue(str(error).isprintable())
        self.assertNotIn('<', str(error))
        return str(error)

    def test_names(self) -> None:
        for name in NAMES:
            why = naming.refusal(name)
            if why is None:
                self.create(name)
            else:
                self.assertRaises(exception.GlanceError, self.create, name)
            self.create(naming.for_glance(name))

    def test_protected(self) -> None:
        dropped, found = self.write(
            disk_format='qcow2', snapshot_method='cold', owner_id='shop'
        )
        self.assertEqual({'snapshot_method'}, dropped)
        self.assertEqual('qcow2', found['disk_format'])
        self.assertEqual('shop', found['owner_id'])
        self.assertNotIn('snapshot_method', found)

    def test_bad_value(self) -> None:
        dropped, found = self.write(
            disk_format='qcow2', snapshot_reason='🚀', owner_id='shop'
        )
        self.assertEqual({'snapshot_reason'}, dropped)
        self.assertEqual('shop', found['owner_id'])

    def test_too_many(self) -> None:
        many = {f'snapshot_{number}': 'x' for number in range(QUOTA)}
        dropped, found = self.write(
            disk_format='qcow2', os_type='linux', hw_disk_bus='scsi', **many
        )
        self.assertEqual({f'snapshot_{QUOTA - n}' for n in (1, 2)}, dropped)
        self.assertEqual('scsi', found['hw_disk_bus'])
        self.assertEqual('x', found['snapshot_0'])

    def test_needed(self) -> None:
        self.assertIn(
            'hw_firmware_type', self.refusal(hw_firmware_type='uefi')
        )
        self.assertIn('disk_format', self.refusal(disk_format='zip-drive'))

    def test_needed_beside_an_optional_one(self) -> None:
        self.assertIn(
            'hw_firmware_type',
            self.refusal(hw_firmware_type='uefi', snapshot_method='cold'),
        )
