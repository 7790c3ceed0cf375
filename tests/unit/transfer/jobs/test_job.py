# SPDX-License-Identifier: Apache-2.0
"""The line of JSON by which a job comes to its process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import ddt
import testtools

from nova_snapshot_driver.common.ownership import Inode
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import Server
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer import __main__ as process
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import KINDS
from nova_snapshot_driver.transfer.jobs.job import AnyJob
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Flatten
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.jobs.job import Verdict
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job_fields import Base
from nova_snapshot_driver.transfer.jobs.job_fields import view_to_dict
from tests.unit import tables

EXPORT = Export('/s', 'vda', 512, Inode(1, 2), Server(0, ('-k', '/s')))
DIRTY = dataclasses.replace(EXPORT, bitmap='backup-vda')
ENCRYPTED = Layer(
    '/delta', 'qcow2', 's3cret', Layer('/base', 'raw', is_last=True)
)
BASE = Base(1 << 20, '/leaves', 'tree')
VOLUME = Volume(
    *('volumes', 'volume-1', 512, ('[::1]:6789', 'mon:6789'), 'cinder'),
    key='s3cret',
    passphrase='s3cret',
)
ZSTD = Encoding('qcow2', 'zstd', 3)

JOBS: tuple[AnyJob, ...] = (
    Extract(ENCRYPTED, Encoding('vmdk'), '/image'),
    Flatten(('rbd', 'flatten', 'images/a'), 'images/a'),
    Save(EXPORT, ZSTD, '/image', '/own'),
    Stream(EXPORT, ZSTD, 'image', ('/ca.pem',), 3, '/own'),
    Upload('/image', 'image', (), 0),
    Hash(ENCRYPTED, '/leaves', '/own'),
    Increment(EXPORT, None, None, '/image', '/leaves', '/own'),
    Update(EXPORT, None, VOLUME, '/leaves', '/own'),
    Restore(ENCRYPTED, '/leaves', 'tree', 512, 'qcow2', '/image', '/own'),
    Verify(ENCRYPTED, '/leaves', 'tree', 512, None, '/own'),
)

#: More jobs, of kinds that are there already.
MORE: tuple[AnyJob, ...] = (
    Increment(DIRTY, BASE, 'base.qcow2', '/image', '/leaves', '/own'),
    Update(DIRTY, BASE, VOLUME, '/leaves', '/own'),
    Verify(VOLUME, '/leaves', 'tree', 512, '/base', '/own'),
    Verify(ENCRYPTED, '/leaves', 'tree', 512, '/base', '/own'),
)

INCREMENT = MORE[0].to_dict()
UPDATE = MORE[1].to_dict()
STREAM = JOBS[3].to_dict()

#: A program that names all modules that a parent loads.
PARENT = """\
import sys
from nova_snapshot_driver.transfer import data_plane
print(*sys.modules)
"""


@ddt.ddt
class JobTest(testtools.TestCase):
    def test_every_kind(self) -> None:
        kinds = {job.kind for job in JOBS}
        self.assertEqual(kinds, set(KINDS))
        self.assertEqual(kinds, set(process.JOBS))

    @tables.rows(
        {
            f'{number}_{job.kind}': (job,)
            for number, job in enumerate(JOBS + MORE)
        }
    )
    def test_comes_over(self, job: AnyJob) -> None:
        fields = json.loads(json.dumps(job.to_dict()))
        self.assertEqual(job, KINDS[job.kind].from_dict(fields))

    def test_secret_is_in_no_text(self) -> None:
        self.assertNotIn('s3cret', repr(JOBS + MORE))

    @tables.rows(
        {
            'no_field': ({},),
            'one_less': ({n: v for n, v in STREAM.items() if n != 'retries'},),
            'one_more': ({**STREAM, 'path': '/image'},),
            'number': ({**STREAM, 'retries': '3'},),
            'less_than_nothing': ({**STREAM, 'retries': -1},),
            'text': ({**STREAM, 'image': None},),
            'list': ({**STREAM, 'files': '/ca.pem'},),
            'list_of_texts': ({**STREAM, 'files': [1]},),
            'encoding': ({**STREAM, 'encoding': 'qcow2'},),
            'field_of_encoding': ({**STREAM, 'encoding': {'form': 'raw'}},),
            'view': ({**STREAM, 'view': {'s3cret': {}}},),
            'no_view': ({**STREAM, 'view': None},),
            'field_of_view': ({**STREAM, 'view': {'export': {}}},),
            'field_of_layer': (
                {**STREAM, 'view': {'layer': {'path': '/a', 's3cret': 1}}},
            ),
        }
    )
    def test_wrong(self, fields: dict[str, Any]) -> None:
        self.assertRaises(ValueError, Stream.from_dict, fields)

    @tables.rows(
        {
            'text': ('base',),
            'field': ({},),
            'another_field': ({'path': '/'},),
        }
    )
    def test_wrong_base(self, base: Any) -> None:
        fields = {**INCREMENT, 'base': base}
        self.assertRaises(ValueError, Increment.from_dict, fields)

    @tables.rows(
        {
            'export': (EXPORT,),
            'layer': (ENCRYPTED,),
        }
    )
    def test_no_volume(self, view: View) -> None:
        fields = {**UPDATE, 'volume': view_to_dict(view)}
        self.assertRaises(ValueError, Update.from_dict, fields)

    def test_verdict(self) -> None:
        self.assertEqual(
            Verdict(2, (0, 1 << 20)),
            Verify.result({'damaged': 2, 'offsets': [0, 1 << 20]}),
        )
        for offsets in (None, 'none', ['0'], [-1]):
            self.assertRaises(
                ValueError, Verify.result, {'damaged': 1, 'offsets': offsets}
            )

    def test_passphrase_is_in_no_error(self) -> None:
        fields = {**STREAM, 'view': {'image': {'passphrase': 's3cret'}}}
        error = self.assertRaises(ValueError, Stream.from_dict, fields)
        self.assertNotIn('s3cret', str(error))

    def test_parent_does_none(self) -> None:
        """A parent never uses nbd or a compressor, and does not load them."""
        loaded = subprocess.check_output(
            [sys.executable, '-c', PARENT], text=True, timeout=60
        ).split()
        self.assertIn('nova_snapshot_driver.transfer.jobs.job', loaded)
        self.assertEqual(
            set(),
            {
                'nbd',
                'libnbdmod',
                'requests',
                'zstandard',
                *process.JOBS.values(),
            }
            & set(loaded),
        )
