# SPDX-License-Identifier: Apache-2.0
"""A host is upgraded while a snapshot of it is dead."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import ddt
import testtools

from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.takings.bitmaps import NewBitmap
from nova_snapshot_driver.takings.bitmaps import OldBitmap
from nova_snapshot_driver.takings.checkpoint_metadata import CheckpointMetadata
from nova_snapshot_driver.takings.undefine import Undefine
from tests.unit import tables
from tests.unit.entries import taken
from tests.unit.state.test_journal import DEFINITION
from tests.unit.state.test_journal import ENTRY

#: An entry with everything, as the former version has written it.
FORMER = """\
{
  "version": 1,
  "definition": {
    "name": "web-1",
    "uuid": "8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4",
    "xml": "<domain type='kvm'>\\n  <name>w\\u00e9b</name>\\n</domain>",
    "autostart": true
  },
  "persistent": true,
  "power_state": "paused",
  "devices": [
    {
      "alias": "hostdev0",
      "xml": "<hostdev/>",
      "identity": "<identity/>"
    }
  ],
  "agent": {
    "alias": "channel0",
    "xml": "<channel/>",
    "identity": "<identity/>"
  },
  "frozen": true,
  "image": "5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2",
  "volumes": [
    "0a1b2c3d-1c57-4b8e-8f49-3f6f0fd1a1b2"
  ],
  "paused": true,
  "clone": {
    "disk": {
      "pool": "vms",
      "name": "8a6f3f5e_disk",
      "user": "nova"
    },
    "snapshot": "nova-snapshot-5f2c9d54",
    "image": {
      "pool": "images",
      "name": "5f2c9d54-1c57-4b8e-8f49-3f6f0fd1a1b2",
      "user": null
    },
    "cluster": "a-cluster"
  },
  "directories": [
    "/var/lib/nova/instances/snapshots",
    "/scratch"
  ],
  "draft": "/backup/web-1.qcow2.0a1b2c3d.part"
}
"""

#: An entry from before entries knew of an image, or of a clone.
OLD = """\
{
  "version": 1,
  "definition": {
    "name": "web-1",
    "uuid": "8a6f3f5e-2c0e-4a53-9d31-6b1a52b0f0c4",
    "xml": "<domain/>",
    "autostart": false
  },
  "persistent": true,
  "power_state": "running",
  "devices": [],
  "frozen": true
}
"""


@ddt.ddt
class FormerEntryTest(testtools.TestCase):
    def test_everything(self) -> None:
        known = ENTRY.without(CheckpointMetadata, NewBitmap, OldBitmap)
        self.assertEqual(
            known.with_(Undefine(DEFINITION)), Entry.from_json(FORMER)
        )

    def test_written_anew(self) -> None:
        entry = Entry.from_json(FORMER)
        text = entry.to_json()
        self.assertEqual(2, json.loads(text)['version'])
        self.assertEqual(entry, Entry.from_json(text))

    def test_little(self) -> None:
        self.assertEqual(
            taken(
                Definition('web-1', DEFINITION.uuid, '<domain/>', False),
                power_state=PowerState.RUNNING,
                frozen=True,
            ),
            Entry.from_json(OLD),
        )

    @tables.rows(
        {
            name: ({name: value},)
            for name, value in {
                'version': 3,
                'definition': {**dataclasses.asdict(DEFINITION), 'uuid': '*'},
                'draft': '/etc/passwd',
                'directories': ['scratch'],
                'frozen': 'yes',
                'power_state': 'asleep and awake',
                'devices': {},
                'another': True,
            }.items()
        }
    )
    def test_spoiled(self, spoiled: dict[str, Any]) -> None:
        text = json.dumps({**json.loads(FORMER), **spoiled})
        self.assertRaises((ValueError, TypeError), Entry.from_json, text)
