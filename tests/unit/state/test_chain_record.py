# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import ddt
import testtools

from nova_snapshot_driver.common.way import Way
from nova_snapshot_driver.state import chain_record
from nova_snapshot_driver.state.chain_record import ChainRecord
from tests.unit import chains
from tests.unit import tables


def _written(record: ChainRecord) -> dict[str, Any]:
    """A record as it is read from its file."""
    fields: dict[str, Any] = json.loads(json.dumps(record.to_dict()))
    return fields


@ddt.ddt
class ChainRecordTest(testtools.TestCase):
    def test_there_and_back(self) -> None:
        record = chains.record(
            'tuesday',
            2,
            parent='monday',
            way=Way.COMPARE,
            reason='the bitmap is lost',
            stale_bitmaps=(chains.BITMAP,),
        )
        written = _written(record)
        self.assertEqual(1, written['version'])
        self.assertEqual(record, ChainRecord.from_dict(written))

    @tables.rows(
        {
            'newer': ({'version': 2}, 'its version is 2'),
            'no_version': ({'version': None}, 'its version is None'),
            'more': ({'more': 1}, 'fields'),
            'path_as_name': ({'name': '../name'}, 'name'),
            'hidden_name': ({'name': '.name'}, 'name'),
            'long_name': ({'name': 'n' * 129}, 'name'),
            'path_as_parent': ({'parent': '/dev/sda'}, 'parent'),
            'empty_parent': ({'parent': ''}, 'parent'),
            'line_after_name': ({'name': 'name\n'}, 'name'),
            'created': ({'created': 'yesterday'}, 'created'),
            'uuid': ({'uuid': 'web-1'}, 'uuid'),
            'disk': ({'disk': 'vda/'}, 'disk'),
            'size': ({'size': -1}, 'size'),
            'true': ({'size': True}, 'size'),
            'text_as_size': ({'size': '1'}, 'int'),
            'way': ({'way': 'guess'}, 'guess'),
            'full_with_parent': ({'way': 'full'}, 'full'),
            'bitmap_without_parent': ({'parent': None}, 'full'),
            'bitmap': ({'bitmap': 'libvirt-1'}, 'not ours'),
            'stale': ({'stale_bitmaps': ['libvirt-1']}, 'not ours'),
            'tree': ({'tree': '0'}, 'tree'),
        }
    )
    def test_refused(self, changes: dict[str, Any], why: str) -> None:
        fields = _written(chains.record('tuesday', 2, parent='monday'))
        ChainRecord.from_dict(fields)
        error = self.assertRaises(
            (ValueError, TypeError),
            ChainRecord.from_dict,
            {**fields, **changes},
        )
        self.assertIn(why, str(error))

    def test_each_field_is_needed(self) -> None:
        fields = _written(chains.record('tuesday', 2, parent='monday'))
        for name in fields:
            others = {each: fields[each] for each in fields if each != name}
            self.assertRaises(ValueError, ChainRecord.from_dict, others)

    @tables.rows({'list': ([],), 'text': ('{}',), 'nothing': (None,)})
    def test_no_record(self, said: Any) -> None:
        self.assertRaises(TypeError, ChainRecord.from_dict, said)

    @tables.rows(
        {
            'time': ('20261201T020711Z', True),
            'longest': ('n' * 128, True),
            'too_long': ('n' * 129, False),
            'empty': ('', False),
            'hidden': ('.name', False),
            'option': ('-name', False),
            'path': ('a/b', False),
            'letters': ('снимок', False),
            'line': ('a\n', False),
            'protocol': ('nbd:name', False),
        }
    )
    def test_is_name(self, name: str, expected: bool) -> None:
        self.assertEqual(expected, chain_record.is_name(name))
