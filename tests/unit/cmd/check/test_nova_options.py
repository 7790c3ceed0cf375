# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pathlib

import ddt
import fixtures
import testtools
from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check.finding import Finding
from tests.unit import tables


class OptionsCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = self.root / 'nova.conf'

    def load(self, text: str, *more: pathlib.Path) -> cfg.ConfigOpts:
        self.config.write_text(text)
        return conf.load([str(self.config), *map(str, more)])


class LoadTest(OptionsCase):
    def test_defaults(self) -> None:
        options = nova_options.load(self.load(''))
        self.assertEqual('', options.compute_driver)
        self.assertEqual('kvm', options.libvirt.virt_type)
        self.assertFalse(options.service_user.send_service_user_token)
        self.assertEqual(
            ['service'], options.keystone_authtoken.service_token_roles
        )
        self.assertEqual(
            ['internal', 'public'], options.glance.valid_interfaces
        )
        self.assertEqual('image', options.glance.service_type)

    def test_no_files(self) -> None:
        self.assertEqual('', nova_options.load(conf.load([])).compute_driver)

    def test_files(self) -> None:
        """The last one counts."""
        more = self.root / 'more.conf'
        more.write_text('[DEFAULT]\ncompute_driver = b\n')
        loaded = self.load('[DEFAULT]\ncompute_driver = a\n', more)
        self.assertEqual('b', nova_options.load(loaded).compute_driver)

    def test_value_that_is_not_valid(self) -> None:
        loaded = self.load(
            '[service_user]\nsend_service_user_token = perhaps\n'
        )
        error = self.assertRaises(
            exception.ConfigurationInvalid, nova_options.load, loaded
        )
        self.assertIn('send_service_user_token', str(error))


@ddt.ddt
class FindingsTest(OptionsCase):
    def findings(self, loaded: cfg.ConfigOpts) -> list[Finding]:
        return list(nova_options.findings(loaded, nova_options.load(loaded)))

    @tables.rows(
        {
            'nothing': ('',),
            'qemu': ('[libvirt]\nvirt_type = qemu\nimages_type = lvm\n',),
            'ceph': ('[libvirt]\nimages_type = rbd\n',),
            'forced': (
                '[snapshot]\npath = mirror\n'
                '[workarounds]\ndisable_libvirt_livesnapshot = true\n',
            ),
        }
    )
    def test_nothing_to_say(self, text: str) -> None:
        self.assertEqual([], self.findings(self.load(text)))

    @tables.rows(
        {
            'lxc': ('libvirt', 'virt_type', 'lxc', "Nova's own driver"),
            'parallels': (
                *('libvirt', 'virt_type', 'parallels'),
                "Nova's own driver",
            ),
            'workaround': (
                *('workarounds', 'disable_libvirt_livesnapshot', 'true'),
                'suspended',
            ),
            'encryption': (
                *('ephemeral_storage_encryption', 'enabled', 'true'),
                'suspended',
            ),
        }
    )
    def test_note(
        self, group: str, option: str, value: str, detail: str
    ) -> None:
        (finding,) = self.findings(
            self.load(f'[{group}]\n{option} = {value}\n')
        )
        self.assertEqual(f'[{group}] {option}', finding.subject)
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(detail, finding.detail)
