# SPDX-License-Identifier: Apache-2.0
"""Nova's own list of the properties that it reads from an image."""

from __future__ import annotations

import testtools
from nova.objects.image_meta import ImageMetaProps

from nova_snapshot_driver.snapshot.destination import metadata

#: Nova builds nothing by it, or has no property of that name: its field of
#: required traits holds those of ``trait:*``.
INFORMS = frozenset({'bittorrent', 'owner_id', 'traits_required'})

#: Of hypervisors that are not libvirt's.
OTHERS = ('vmware_', 'xenapi_', 'hyperv_')


class ImagePropertiesTest(testtools.TestCase):
    def test_what_nova_builds_a_server_by_is_needed(self) -> None:
        """A property that Nova has got meanwhile is found here."""
        known = {*ImageMetaProps.fields, *ImageMetaProps._legacy_property_map}
        self.assertIn('hw_firmware_type', known)
        self.assertEqual(
            [],
            sorted(
                name
                for name in known - INFORMS
                if metadata.is_optional(name) and not name.startswith(OTHERS)
            ),
        )
