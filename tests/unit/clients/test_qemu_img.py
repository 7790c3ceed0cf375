# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import logging
import pathlib
import subprocess

import ddt
import fixtures
import testtools
from oslo_concurrency import processutils

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.common.view import Layer
from tests.unit import tables
from tests.unit.fake_qemu_img import FakeQemuImg
from tests.unit.host import NoWaiting


class QemuImgCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeQemuImg()
        self.useFixture(
            fixtures.MockPatchObject(
                processutils, 'execute', self.fake.execute
            )
        )


class CreateOverlayTest(QemuImgCase):
    def setUp(self) -> None:
        super().setUp()
        root = self.useFixture(fixtures.TempDir()).path
        self.path = pathlib.Path(root) / 'delta'

    def create(self, backing: Layer | None) -> list[str]:
        qemu_img.create_overlay(str(self.path), 1 << 30, backing)
        self.assertTrue(self.path.exists())
        return list(self.fake.calls[-1])

    def test_on_a_backing_file(self) -> None:
        arguments = ' '.join(self.create(Layer('/base', 'raw')))
        self.assertIn('-u -b /base -F raw', arguments)
        self.assertTrue(arguments.endswith(f'{self.path} {1 << 30}'))

    def test_on_nothing(self) -> None:
        self.assertNotIn('-b', self.create(None))


class BackingChainTest(QemuImgCase):
    def chain(self, image: Layer) -> list[Layer]:
        return qemu_img.backing_chain('web-1', image)

    def test_none(self) -> None:
        self.assertEqual([], self.chain(Layer('/disk', 'qcow2')))

    def test_three(self) -> None:
        self.fake.backing['/disk'] = ('/middle', 'qcow2')
        self.fake.backing['/middle'] = ('/base', 'raw')
        self.assertEqual(
            [Layer('/middle', 'qcow2'), Layer('/base', 'raw')],
            self.chain(Layer('/disk', 'qcow2')),
        )

    def test_chain_of_the_domain_goes_before_the_headers(self) -> None:
        self.fake.backing['/disk'] = ('/old', 'qcow2')
        self.fake.backing['/new'] = ('/base', 'raw')
        new = Layer('/new', 'qcow2')
        self.assertEqual(
            [new, Layer('/base', 'raw')],
            self.chain(Layer('/disk', 'qcow2', backing=new)),
        )

    def test_chain_that_the_domain_ends(self) -> None:
        self.fake.backing['/disk'] = ('/old', None)
        self.assertEqual([], self.chain(Layer('/disk', 'qcow2', is_last=True)))
        self.assertEqual([], self.fake.calls)

    def test_domain_leaves_a_header_without_a_format(self) -> None:
        self.fake.backing['/new'] = ('/base', None)
        disk = Layer('/disk', 'qcow2', backing=Layer('/new', 'qcow2'))
        error = self.assertRaises(
            exception.UnsafeBackingFile, self.chain, disk
        )
        self.assertIn('/new', str(error))

    def test_raw_image_is_never_looked_into(self) -> None:
        """A guest that writes a qcow2 header into it gets nothing."""
        self.fake.backing['/disk'] = ('/etc/shadow', 'raw')
        self.assertEqual([], self.chain(Layer('/disk', 'raw')))
        self.assertEqual([], self.fake.calls)

    def test_format_is_always_given(self) -> None:
        self.fake.backing['/disk'] = ('/base', 'qcow2')
        self.chain(Layer('/disk', 'qcow2'))
        formats = [
            call[call.index('-f') + 1 : call.index('-f') + 3]
            for call in self.fake.calls
        ]
        self.assertEqual([('qcow2', '/disk'), ('qcow2', '/base')], formats)

    def test_unrecorded_format(self) -> None:
        self.fake.backing['/disk'] = ('/middle', 'qcow2')
        self.fake.backing['/middle'] = ('/base', None)
        error = self.assertRaises(
            exception.UnsafeBackingFile, self.chain, Layer('/disk', 'qcow2')
        )
        self.assertIn('/middle', str(error))
        self.assertIn('qemu-img rebase', str(error))


class ContentBytesTest(QemuImgCase):
    def test_required(self) -> None:
        self.fake.required = 12345
        self.assertEqual(
            12345, qemu_img.content_bytes(Layer('/disk', 'qcow2'))
        )

    def test_image_in_use(self) -> None:
        qemu_img.content_bytes(Layer('/disk', 'qcow2'))
        self.assertIn('-U', self.fake.calls[-1])

    def test_chain_of_the_domain(self) -> None:
        lowest = Layer('/lowest', 'raw', is_last=True)
        qemu_img.content_bytes(Layer('/disk', 'qcow2', backing=lowest))
        self.assertIn('"filename": "/lowest"', self.fake.calls[-1][-1])


class VirtualSizeTest(QemuImgCase):
    def test_image_alone_is_asked(self) -> None:
        self.fake.size = 12345
        lowest = Layer('/lowest', 'raw', is_last=True)
        disk = Layer('/disk', 'qcow2', backing=lowest)
        self.assertEqual(12345, qemu_img.virtual_size(disk))
        self.assertEqual(
            ('-U', '-f', 'qcow2', '/disk'), self.fake.calls[-1][-4:]
        )


class FailureTest(QemuImgCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(NoWaiting())

    def fail(self, error: Exception) -> exception.SnapshotError:  # type: ignore[override]
        self.fake.error = error
        raised = self.assertRaises(
            exception.CommandFailed,
            qemu_img.content_bytes,
            Layer('/disk', 'qcow2'),
        )
        assert isinstance(raised, exception.SnapshotError)
        self.assertEqual(3, len(self.fake.calls))
        return raised

    def test_once(self) -> None:
        """A guest was writing to it."""
        error = processutils.ProcessExecutionError(exit_code=1)
        answers = [error, ('{"required": 4096}', '')]
        execute = self.useFixture(
            fixtures.MockPatchObject(
                processutils, 'execute', side_effect=answers
            )
        ).mock
        self.assertEqual(4096, qemu_img.content_bytes(Layer('/disk', 'raw')))
        self.assertEqual(2, execute.call_count)

    def test_exit_status(self) -> None:
        error = self.fail(
            processutils.ProcessExecutionError(
                stderr='Could not open /disk\n', exit_code=1
            )
        )
        self.assertEqual(
            'qemu-img measure failed with exit status 1: Could not open /disk',
            str(error),
        )

    def test_no_end(self) -> None:
        error = self.fail(subprocess.TimeoutExpired('qemu-img', 120))
        self.assertIn('no end within 120 s', str(error))


@ddt.ddt
class AnswerTest(QemuImgCase):
    """An image may be made so that ``qemu-img`` says anything of it."""

    @tables.rows(
        {
            'nothing': ('',),
            'no_json': ('{',),
            'no_object': ('[]',),
            'too_deep': ('[' * 100_000,),
            'too_long': (
                '{"virtual-size": 1, "x": "%s"}' % ('x' * (1 << 20)),
            ),
        }
    )
    def test_refused(self, answer: str) -> None:
        self.useFixture(
            fixtures.MockPatchObject(
                processutils, 'execute', lambda *_, **__: (answer, '')
            )
        )
        error = self.assertRaises(
            exception.CommandFailed,
            qemu_img.virtual_size,
            Layer('/disk', 'qcow2'),
        )
        self.assertIn('is no JSON, or too long', str(error))


class DebugTest(testtools.TestCase):
    def test_command_is_logged_and_its_passphrase_is_not(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        passphrase = base64.b64encode(b'pa55phrase').decode()
        path = f'{self.useFixture(fixtures.TempDir()).path}/scratch'
        qemu_img.create_encrypted(path, 1 << 20, passphrase)
        self.assertIn('qemu-img create', log.output)
        self.assertIn(path, log.output)
        for secret in ('pa55phrase', passphrase):
            self.assertNotIn(secret, log.output)
