# SPDX-License-Identifier: Apache-2.0
"""The way in, out and in again, by the commands of the pages."""

from __future__ import annotations

from pathlib import Path

from openstack.compute.v2.server import Server

from lab.cloud.checkout import uninstall_checkout
from lab.errors import LabError
from tests.openstack.base import options
from tests.openstack.deployment import pages
from tests.openstack.deployment.base import StockCloudTest
from tests.openstack.deployment.ini_file import parse

#: The findings of a check before a step of the way back, and not after it.
UNTIL = {
    '1. nova-api': {'api-paste.ini', 'nova-api'},
    '2. Snapshots': set(),
    '3. nova-compute': {'compute_driver'},
    '4. systemd': {'systemd'},
    '5. The options in nova.conf': {'[snapshot]', 'Metrics'},
    '6. Monitoring': set(),
    '7. AppArmor and SELinux': set(),
}

#: The steps that uninstall the package, and with it the check, and follow.
LAST = ('8. The package', '9. Files')

#: The findings without which the package may go.
BLOCKING = {'api-paste.ini', 'nova-api', 'compute_driver'}

#: The options that Nova itself goes on to use.
KEPT = {
    ('DEFAULT', 'non_inheritable_image_properties'),
    *(
        ('service_user', option)
        for option in (
            *('send_service_user_token', 'auth_type', 'auth_url', 'username'),
            *('password', 'user_domain_name', 'project_name'),
            'project_domain_name',
        )
    ),
}


class WayTest(StockCloudTest):
    """A cloud that has never seen the driver, and its nova-api."""

    def setUp(self) -> None:
        super().setUp()
        # The one before has changed the files.
        self.cloud.ensure(options(**self.cloud_options), self.overrides())
        uninstall_checkout(self.cloud.install.python)
        for service in ('nova-api', 'nova-compute'):
            self.cloud.services[service].restart()

    def test_in_and_out_and_in_again(self) -> None:
        server = self.new_server()
        files = self.files()
        paste = self.operator.host.api_paste.path.read_text()
        settings = self.settings()
        with self.operator.api.watched() as watch:
            self.go_in()
            self.assert_snapshot_by_driver(server)
            self.go_out()
            self.assertEqual(files, self.files())
            self.assertEqual(
                paste, self.operator.host.api_paste.path.read_text()
            )
            self.assertEqual(KEPT, self.settings() - settings)
            self.assert_snapshot_by_nova(server)
            self.go_in()
            self.assert_snapshot_by_driver(server)
        self.assertEqual([], watch.failures)
        self.assertGreater(watch.answers, 0)

    def go_in(self) -> None:
        for block in pages.WAY_IN:
            self.operator.follow(block)
        self.operator.write_apparmor(pages.APPARMOR)

    def go_out(self) -> None:
        self.assertEqual([*UNTIL, *LAST], list(pages.WAY_BACK))
        left = self.left()
        for step, until in UNTIL.items():
            self.assertEqual(until, until & left, step)
            self.take(step)
            left = self.left()
            self.assertEqual(set(), until & left, step)
        self.assertEqual('', self.operator.host.apparmor.read_text())
        for step in LAST:
            self.take(step)

    def take(self, step: str) -> None:
        """Do what the page has for a step of the way back."""
        for block in pages.WAY_BACK[step]:
            # A check finds what is left for the later steps.
            is_check = '--before-removal' in block.text
            self.operator.follow(block, accept=(0, 1) if is_check else (0,))

    def left(self) -> set[str]:
        """The subjects that a check before the removal finds in use."""
        report = self.operator.host.check('--before-removal')
        left = report.of_verdict('WARNING', 'FAILURE')
        self.assertEqual(1 if BLOCKING & left else 0, report.status)
        return left

    def settings(self) -> set[tuple[str, str]]:
        """The options in nova.conf, by section and name."""
        text = self.operator.host.nova_conf.path.read_text()
        return {(section, option) for section, option, _ in parse(text)}

    def files(self) -> set[Path]:
        """The files of Nova's environment."""
        top = self.cloud.install.directory
        return {
            path.relative_to(top)
            for path in top.rglob('*')
            if '__pycache__' not in path.parts and path.is_file()
        }

    def assert_snapshot_by_driver(self, server: Server) -> None:
        earliest = self.wait_for_records(server)
        image = self.snapshot(server)
        self.assertEqual('backup', image.properties['snapshot_method'])
        self.examine(image, earliest)

    def assert_snapshot_by_nova(self, server: Server) -> None:
        earliest = self.wait_for_records(server)
        image = self.snapshot(server)
        self.assertNotIn('snapshot_method', image.properties)
        self.examine(image, earliest)

    def test_package_goes_before_the_line(self) -> None:
        """nova-api is down from its next reload on, until the line is gone."""
        for block in (pages.WHEEL, pages.IN_SHORT, pages.API_LINE):
            self.operator.follow(block)
        self.operator.host.check().about(
            'nova-api', 'WARNING', 'has not loaded the driver', 'Restart'
        )
        self.operator.follow(pages.API_RESTART)
        self.operator.host.check().about('nova-api', 'SUCCESS')
        self.operator.type(
            '/path/to/nova/bin/pip uninstall --yes nova-snapshot-driver'
        )
        error = self.assertRaises(LabError, self.operator.api.reload)
        self.assertIn("No module named 'nova_snapshot_driver'", str(error))
        self.assertFalse(self.operator.api.running)
        self.operator.follow(pages.WAY_BACK['1. nova-api'][0])
        self.assertTrue(self.operator.api.running)
