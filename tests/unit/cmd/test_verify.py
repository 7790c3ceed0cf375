# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from typing import Any

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.snapshot.destination import standing
from nova_snapshot_driver.takings.cinder_snapshots import MARK
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result
from tests.unit.shadow_host import ShadowHost

NOBODY = '0e5c1c1c-55f0-4f0e-8a54-6c0f4f7d2a10'


@ddt.ddt
class VerifyTest(testtools.TestCase):
    """A snapshot in Cinder, of which the owner may change all records."""

    def setUp(self) -> None:
        super().setUp()
        self.host = ShadowHost()
        self.command = self.useFixture(CommandLine(host=self.host))
        self.useFixture(
            fixtures.MockPatchObject(
                cloud, 'of', return_value=self.host.context
            )
        )
        self.host.take()
        newest = self.host.newest()
        assert newest is not None
        self.snapshot = newest
        self.host.data_plane.hashed.clear()

    @property
    def image(self) -> dict[str, Any]:
        image: dict[str, Any] = self.host.glance.images[self.host.image]
        return image

    def run_command(self, *snapshots: str) -> Result:
        return self.command.run('verify', *snapshots)

    def as_json(self, *snapshots: str) -> Result:
        return self.run_command(*snapshots, '--format', 'json')

    @tables.rows({'of_the_image': (True,), 'of_the_snapshot': (False,)})
    def test_intact(self, by_image: bool) -> None:
        before = self.host.before()
        volume = dict(self.host.volume)
        name = self.host.image if by_image else self.snapshot['id']
        result = self.as_json(name)
        self.assertEqual(0, result.status, result.errors)
        (finding,) = result.json
        tree = self.snapshot['metadata'][standing.TREE]
        self.assertEqual(
            {
                'name': name,
                'image': self.host.image,
                'snapshot': self.snapshot['id'],
                'volume': self.host.volume['id'],
                'intact': True,
                'recorded': tree,
                'found': tree,
                'error': None,
            },
            finding,
        )
        (view,) = self.host.data_plane.hashed
        self.assertEqual(
            dataclasses.replace(
                self.host.data_plane.updates[0].volume,
                snapshot=f'snapshot-{self.snapshot["id"]}',
            ),
            view,
        )
        # The next snapshot goes by the time of the last change.
        self.assertEqual(volume, self.host.volume)
        self.assertEqual([], self.host.differences(before))

    def test_in_words(self) -> None:
        result = self.run_command(self.host.image)
        self.assertIn('as it was when it was captured', result.output)
        self.assertIn('1 verified, 0 not intact', result.output)

    def test_damaged(self) -> None:
        """A damaged one does not keep the others from being verified."""
        self.host.data_plane.tree = 'f' * 64
        result = self.as_json(self.host.image, NOBODY, self.snapshot['id'])
        self.assertEqual(1, result.status)
        first, nobody, last = result.json
        self.assertEqual('f' * 64, first['found'])
        self.assertFalse(first['intact'] or last['intact'])
        self.assertIsNone(first['error'])
        self.assertEqual('snapshot-unverifiable', nobody['error']['code'])
        words = self.run_command(self.host.image).output
        self.assertIn('other content than when it was captured', words)

    @tables.rows(
        {
            'of_another_image': ({}, {MARK: NOBODY}, 'was taken for the'),
            'other_hash_in_glance': (
                {'snapshot_tree_sha256': 'a' * 64},
                {},
                'different hashes',
            ),
            'other_hash_in_cinder': (
                {},
                {standing.TREE: 'a' * 64},
                'different hashes',
            ),
            'no_hash': ({}, {standing.TREE: ''}, 'Cinder has no hash'),
            'not_complete': ({}, {standing.SETTLED: ''}, 'Cinder has no hash'),
            'size': ({}, {standing.SIZE: 'large'}, 'Cinder has no hash'),
            'no_mapping': (
                {'block_device_mapping': 'none'},
                {},
                'does not map one snapshot',
            ),
            'two_mapped': (
                {'block_device_mapping': '[{}, {}]'},
                {},
                'does not map one snapshot',
            ),
            'number': (
                {'block_device_mapping': '[{"snapshot_id": 1}]'},
                {},
                'is damaged',
            ),
            'mapped_one_is_gone': (
                {
                    'block_device_mapping': json.dumps(
                        [{'snapshot_id': NOBODY}]
                    )
                },
                {},
                'no snapshot in Cinder of this id',
            ),
        }
    )
    def test_records_were_changed(
        self, image: dict[str, Any], cinder: dict[str, Any], words: str
    ) -> None:
        self.image.update(image)
        self.snapshot['metadata'] |= cinder
        result = self.as_json(self.host.image)
        self.assertEqual(1, result.status)
        (finding,) = result.json
        self.assertEqual('snapshot-unverifiable', finding['error']['code'])
        self.assertIn(words, finding['error']['message'])
        self.assertEqual([], self.host.data_plane.hashed)

    @tables.rows(
        {
            'encrypted': ({'encrypted': True}, 'Nova alone may read its key'),
            'other_backend': ({'hosts': None}, 'in no way that is known'),
        }
    )
    def test_out_of_reach(self, fields: dict[str, Any], words: str) -> None:
        self.host.cinder.connection = lambda volume: (
            fake_cinder.in_ceph(volume) | fields
        )
        result = self.as_json(self.host.image)
        self.assertEqual(1, result.status)
        (finding,) = result.json
        self.assertEqual('volume-out-of-reach', finding['error']['code'])
        self.assertIn(words, finding['error']['message'])
        self.assertEqual(self.snapshot['id'], finding['snapshot'])

    def test_cinder_is_out_of_reach(self) -> None:
        """Nothing else can be verified either."""
        self.host.cinder.before = lambda _request: self.fail_to_answer()
        result = self.as_json(self.host.image)
        self.assertEqual(1, result.status)
        self.assertEqual('cinder-unavailable', result.json['error']['code'])

    def fail_to_answer(self) -> None:
        raise ConnectionError('no route')

    def test_unreadable(self) -> None:
        """Nobody keeps the connection."""
        error = exception.SourceUnreadable(
            source='the volume', reason='an error of Ceph'
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.transfer.data_plane.run',
                side_effect=error,
            )
        )
        result = self.as_json(self.host.image)
        (finding,) = result.json
        self.assertEqual('source-unreadable', finding['error']['code'])
        self.assertEqual(['act', 'act'], self.acts()[-2:])

    def test_end_is_not_heard(self) -> None:
        """The result counts all the same."""
        acts = self.acts().count('act')
        self.host.cinder.troubles[f'act_{acts + 2}'] = fake_cinder.unavailable
        result = self.as_json(self.host.image)
        self.assertEqual(0, result.status)
        self.assertIn('After the verification: ', self.host.log.output)

    def acts(self) -> list[str]:
        return [
            request.partition('_')[0] for request in self.host.cinder.requests
        ]
