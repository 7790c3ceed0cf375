# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import ddt
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import exception
from nova_snapshot_driver.hypervisor import backup_xml
from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor import libvirt_xml
from nova_snapshot_driver.hypervisor.domain import QemuUser
from tests import exhaustive
from tests.unit import documents
from tests.unit import tables

LOOK = hypothesis.settings(
    max_examples=exhaustive.examples(100),
    deadline=None,
    database=None,
    derandomize=exhaustive.examples(1) == 1,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)

#: Each is ten of the one before.
ENTITIES = ''.join(
    f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">'
    for number in range(1, 10)
)
LAUGHS = f'<!DOCTYPE a [<!ENTITY a0 "ha">{ENTITIES}]><a>&a9;</a>'

QUADRATIC = (
    f'<!DOCTYPE a [<!ENTITY b "{"x" * 50_000}">]><a>{"&b;" * 50_000}</a>'
)

EXTERNAL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


def nested(levels: int) -> str:
    return '<a>' * levels + '</a>' * levels


@ddt.ddt
class BoundsTest(testtools.TestCase):
    @tables.rows(
        {
            'empty': ('', 'no element'),
            'no_xml': ('domain', 'syntax'),
            'cut': ('<domain>', 'no element'),
            'two': ('<a/><a/>', 'junk'),
            'nul': ('<a>\0</a>', 'not well-formed'),
            'half_of_a_character': ('<a>\ud800</a>', 'surrogates'),
            'entity': ('<a>&b;</a>', 'undefined entity'),
            'document_type': ('<!DOCTYPE a><a/>', 'document type'),
            'billion_laughs': (LAUGHS, 'document type'),
            'quadratic': (QUADRATIC, 'document type'),
            'external': (EXTERNAL, 'document type'),
            'deep': (nested(libvirt_xml.DEEPEST + 1), 'levels'),
            # Deeper than the stack of a copy is.
            'very_deep': (nested(1_000_000), 'levels'),
            'large': (f'<a>{" " * libvirt_xml.LARGEST}</a>', 'characters'),
        }
    )
    def test_refused(self, xml: str, why: str) -> None:
        for read in (domain.parse, backup_xml.socket_of, backup_xml.disks_of):
            error = self.assertRaises(
                exception.DescriptionUnreadable, read, xml
            )
            self.assertIn(why, str(error))
            self.assertLess(len(str(error)), 500)

    def test_little_memory_for_what_is_refused(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for xml in (LAUGHS, QUADRATIC, nested(1_000_000)):
            tracemalloc.reset_peak()
            self.assertRaises(
                exception.DescriptionUnreadable, libvirt_xml.parsed, xml, '-'
            )
            _, peak = tracemalloc.get_traced_memory()
            self.assertLess(peak, 64 << 20)

    def test_as_deep_as_it_may_be(self) -> None:
        root = libvirt_xml.parsed(nested(libvirt_xml.DEEPEST), '-')
        self.assertEqual(libvirt_xml.DEEPEST, len(list(root.iter())))

    def test_wide(self) -> None:
        """The depth is that of an element, and not their number."""
        root = libvirt_xml.parsed(f'<a>{"<b/>" * 1000}</a>', '-')
        self.assertEqual(1000, len(root))


@ddt.ddt
class LabelTest(testtools.TestCase):
    @tables.rows(
        {
            'both': ('+64055:+108', QemuUser(64055, 108)),
            'user': ('64055', QemuUser(64055, None)),
            'last': ('+4294967294', QemuUser(4294967294, None)),
            'nobody': ('+4294967295', None),
            'large': ('+9999999999:+1', None),
            'long': ('9' * 5000, None),
            'name': ('libvirt-qemu:kvm', None),
            'other_digits': ('\u0661', None),
            'none': (None, None),
        }
    )
    def test_label(self, label: str | None, user: QemuUser | None) -> None:
        self.assertEqual(user, QemuUser.from_label(label))


#: All that the driver looks for, and more.
TAGS = strategies.sampled_from(
    [
        *('name', 'uuid', 'metadata', 'devices', 'disk', 'source', 'target'),
        *('driver', 'backingStore', 'format', 'mirror', 'encryption'),
        *('secret', 'serial', 'auth', 'snapshot', 'seclabel', 'label'),
        *('channel', 'alias', 'address', 'interface', 'hostdev', 'server'),
        *('disks', 'a:b'),
    ]
)

ATTRIBUTES = strategies.sampled_from(
    [
        *('type', 'dev', 'file', 'name', 'format', 'device', 'protocol'),
        *('uuid', 'state', 'model', 'ready', 'bus', 'pool', 'volume', 'id'),
        *('transport', 'socket', 'backup', 'a:c', 'xml:lang'),
    ]
)

VALUES = strategies.sampled_from(
    [
        *('file', 'block', 'network', 'volume', 'rbd', 'raw', 'qcow2', 'luks'),
        *('disk', 'lun', 'cdrom', 'yes', 'dac', 'unix', 'virtio', 'hostdev'),
        *('pci', 'org.qemu.guest_agent.0', 'connected', 'passphrase', '', '/'),
        *('+1:+2', '9' * 5000, 'pool/image', '&amp;&lt;&#10;&#13;&quot;'),
    ]
) | strategies.text(
    strategies.characters(
        min_codepoint=32,
        exclude_characters='<&"\ufffe\uffff',
        exclude_categories=('Cs', 'Cc'),
    ),
    max_size=20,
)


@strategies.composite
def elements(
    draw: strategies.DrawFn, inner: strategies.SearchStrategy[str]
) -> str:
    tag = draw(TAGS)
    attributes = draw(strategies.dictionaries(ATTRIBUTES, VALUES, max_size=4))
    content = ''.join(draw(strategies.lists(inner, max_size=5)))
    words = ''.join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<{tag}{words}>{content}</{tag}>'


TREES = strategies.recursive(VALUES, elements, max_leaves=20)

DEVICES = strategies.lists(elements(TREES), max_size=4).map(''.join)


class AnyXmlTest(testtools.TestCase):
    """A good result, or a refusal by name."""

    def read(self, xml: str) -> None:
        for read in (domain.parse, backup_xml.socket_of, backup_xml.disks_of):
            try:
                read(xml)
            except exception.DescriptionUnreadable as error:
                self.assertTrue(str(error).isprintable())

    @LOOK
    @hypothesis.given(strategies.text())
    def test_any_text(self, text: str) -> None:
        self.read(text)

    @LOOK
    @hypothesis.given(TREES)
    def test_any_elements(self, tree: str) -> None:
        self.read(
            f'<domainbackup xmlns:a="urn:a">{tree}'
            f'<disks>{tree}</disks></domainbackup>'
        )

    @LOOK
    @hypothesis.given(DEVICES)
    def test_any_devices(self, devices: str) -> None:
        self.read(
            '<domain type="kvm" id="1" xmlns:a="urn:a">'
            f'<devices>{devices}</devices></domain>'
        )

    @LOOK
    @hypothesis.given(
        strategies.data(),
        strategies.sampled_from(
            [
                documents.inactive(documents.file_disk('/disk')),
                documents.inactive(documents.CDROM),
            ]
        ),
    )
    def test_anything_in_place_of_a_part(
        self, data: strategies.DataObject, good: str
    ) -> None:
        positions = strategies.integers(0, len(good))
        begin, end = sorted((data.draw(positions), data.draw(positions)))
        self.read(good[:begin] + data.draw(TREES) + good[end:])
