# SPDX-License-Identifier: Apache-2.0
"""``check --before-removal``, on a host with all that a deployment adds."""

from __future__ import annotations

import os
import pathlib
from unittest import mock

import ddt
import fixtures
import requests_mock
import testtools

from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import leftovers
from nova_snapshot_driver.cmd.check import units
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from tests.unit import tables
from tests.unit.cmd.check import fake_nova_api
from tests.unit.cmd.check.test_api_paste import APP
from tests.unit.cmd.check.test_service_user import CONFIGURED
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result
from tests.unit.cmd.fake_keystone import FakeKeystone
from tests.unit.running_snapshot import RunningSnapshot

UUID = '6394328f-6cc1-4569-a037-1f1d0655a168'

OURS = 'compute_driver = snapshot_driver.LibvirtSnapshotDriver\n'

#: The subjects that are always looked at.
ALWAYS = [
    'api-paste.ini',
    'nova-api',
    'Snapshots',
    'compute_driver',
    'Elsewhere',
]

APPARMOR_LINE = '  /var/lib/nova/instances/snapshots/@{profile_name}.*/s rw,\n'


class RemovalCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command: CommandLine = self.useFixture(CommandLine())
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for module, name, path in (
            (api_paste, 'USUAL_DIRECTORY', 'usual'),
            (leftovers, 'APPARMOR', 'apparmor'),
            (leftovers, 'PACKAGES', 'packages'),
        ):
            self.patch_path(module, name, str(self.root / path))
        self.patch_path(units, 'DIRECTORIES', [str(self.root / 'systemd')])
        self.mocker = requests_mock.Mocker()
        self.mocker.start()
        self.addCleanup(self.mocker.stop)
        FakeKeystone().mocked(self.mocker)
        fake_nova_api.answers(self.mocker, None)
        self.configure('')

    def patch_path(self, module: object, name: str, value: object) -> None:
        self.useFixture(fixtures.MockPatchObject(module, name, value))

    def configure(self, text: str) -> None:
        self.command.config.write_text(
            f'[DEFAULT]\nstate_path = {self.root}/nova\n{text}{CONFIGURED}'
        )

    def write(self, name: str, text: str = '') -> pathlib.Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def write_state(self, name: str) -> None:
        directory = pathlib.Path(self.command.host.directories.state)
        directory.mkdir(mode=0o700, exist_ok=True)
        (directory / name).write_text('')

    def run_check(self, *arguments: str) -> Result:
        return self.command.run('check', '--before-removal', *arguments)

    def check(self) -> tuple[int, dict[str, tuple[str, str]]]:
        """The exit status, and verdict and detail by subject."""
        result = self.run_check('--format', 'json')
        found = {
            each['subject']: (each['verdict'], each['detail'])
            for each in result.json
        }
        self.assertEqual(len(found), len(result.json))
        return result.status, found

    def finding(self, subject: str, verdict: str, *details: str) -> None:
        """Check that one subject alone has a finding that is not usual."""
        status, found = self.check()
        self.assertEqual(int(verdict == 'FAILURE'), status)
        self.assertEqual(verdict, found[subject][0])
        for detail in details:
            self.assertIn(detail, found[subject][1])
        found.pop('Elsewhere')
        for name in found.keys() - {subject}:
            self.assertEqual('SUCCESS', found[name][0], name)


@ddt.ddt
class RemovalTest(RemovalCase):
    def test_nothing_is_left(self) -> None:
        status, found = self.check()
        self.assertEqual(0, status)
        self.assertEqual(ALWAYS, list(found))
        verdict, detail = found.pop('Elsewhere')
        self.assertEqual('WARNING', verdict)
        self.assertTrue(detail.startswith(NOT_KNOWN))
        self.assertEqual(
            {'SUCCESS'}, {verdict for verdict, _ in found.values()}
        )

    def test_verdict(self) -> None:
        last = self.run_check().output.splitlines()[-1]
        self.assertEqual('May be removed: 1 warning', last)

    def test_verdict_of_a_failure(self) -> None:
        self.write_state(f'{UUID}.json')
        result = self.run_check()
        self.assertEqual(1, result.status)
        self.assertEqual(
            'Not yet: 1 failure, 2 warnings', result.output.splitlines()[-1]
        )

    def test_nothing_is_tried(self) -> None:
        """Neither libvirt nor Glance is asked."""
        self.assertEqual(0, self.check()[0])
        self.assertEqual([], self.command.uris)
        asked = {request.hostname for request in self.mocker.request_history}
        self.assertEqual({'keystone.example.com', 'nova.example.com'}, asked)

    def test_order(self) -> None:
        """The order is that of the page, which takes the host back."""
        self.write('usual/api-paste.ini', APP.format(api_paste.OURS))
        self.write_state(f'{UUID}.json')
        self.write('systemd/nova-compute.service', 'ExecStart=-nova-snapshot')
        self.write('apparmor', APPARMOR_LINE)
        self.configure(
            f'{OURS}non_inheritable_image_properties = snapshot_disk\n'
            f'[snapshot]\nmetrics_file = {self.write("x.prom")}\n'
        )
        status, found = self.check()
        self.assertEqual(1, status)
        self.assertEqual(
            [
                *('api-paste.ini', 'nova-api', 'Snapshots', 'Dead snapshots'),
                *('compute_driver', 'systemd', '[snapshot]'),
                *('non_inheritable_image_properties', 'Metrics', 'AppArmor'),
                *('State directory', 'Elsewhere'),
            ],
            list(found),
        )

    @tables.rows(
        {
            'right': (APP.format(api_paste.OURS),),
            'in_another_section': (
                f'{APP.format(api_paste.UPSTREAM)}[app:mine]\n'
                f'paste.app_factory = {api_paste.OURS}\n',
            ),
        }
    )
    def test_line_of_nova_api(self, text: str) -> None:
        path = self.write('usual/api-paste.ini', text)
        self.finding(
            'api-paste.ini',
            'FAILURE',
            str(path),
            f'paste.app_factory = {api_paste.UPSTREAM}',
        )

    def test_no_line(self) -> None:
        self.write('usual/api-paste.ini', APP.format(api_paste.UPSTREAM))
        self.finding('api-paste.ini', 'SUCCESS', 'does not name the driver')

    def test_second_file(self) -> None:
        """Another nova-api may read another file than the first one found."""
        self.write('usual/api-paste.ini', APP.format(api_paste.OURS))
        beside = self.command.config.parent / 'api-paste.ini'
        beside.write_text(APP.format(api_paste.UPSTREAM))
        result = self.run_check()
        self.assertEqual(1, result.status)
        self.assertIn(f'{beside} does not name', result.output)

    def test_line_that_cannot_be_read(self) -> None:
        self.write('usual/api-paste.ini', 'no ini')
        self.finding('api-paste.ini', 'FAILURE', NOT_KNOWN)

    def test_nova_api_not_restarted(self) -> None:
        self.write('usual/api-paste.ini', APP.format(api_paste.UPSTREAM))
        fake_nova_api.answers(self.mocker, '1.2')
        self.finding('nova-api', 'FAILURE', '1.2', 'Restart it')

    def test_nova_api_of_another_host(self) -> None:
        """A host can be taken back alone, and nova-api keeps the line."""
        fake_nova_api.answers(self.mocker, '1.2')
        self.finding('nova-api', 'WARNING', 'no api-paste.ini on this host')

    def test_nova_api_does_not_answer(self) -> None:
        fake_nova_api.answers(self.mocker, None, status_code=503)
        self.finding('nova-api', 'WARNING', NOT_KNOWN, '503')

    def test_running_snapshot(self) -> None:
        state = self.command.host.directories.state
        self.useFixture(RunningSnapshot(state, 'a', UUID))
        status, found = self.check()
        self.assertEqual(1, status)
        self.assertEqual('FAILURE', found['Snapshots'][0])
        self.assertEqual('SUCCESS', found['Dead snapshots'][0])

    @tables.rows({'given': (None,), 'not_given': ('nova-compute.conf',)})
    def test_compute_driver(self, name: str | None) -> None:
        if name is None:
            self.configure(OURS)
            path = self.command.config
        else:
            path = self.command.config.parent / name
            path.write_text(f'[DEFAULT]\n{OURS}')
        self.finding('compute_driver', 'FAILURE', str(path))

    def test_file_that_cannot_be_read(self) -> None:
        path = self.write('usual/nova.conf', 'compute_driver')
        self.finding('Configuration', 'FAILURE', NOT_KNOWN, str(path))

    def test_units(self) -> None:
        self.write('systemd/nova-compute.service', 'ExecStart=nova-snapshot')
        self.finding('systemd', 'FAILURE', 'ExecStart=nova-snapshot')

    @tables.rows(
        {
            'expect_driver': ('--expect-driver',),
            'domain': ('a-domain',),
        }
    )
    def test_refused(self, argument: str) -> None:
        ended = self.assertRaises(SystemExit, self.run_check, argument)
        self.assertEqual(2, ended.code)


@ddt.ddt
class LeftoversTest(RemovalCase):
    """The traces that break nothing."""

    def test_group(self) -> None:
        self.configure('[snapshot]\nquiesce = require\n')
        self.finding(
            '[snapshot]', 'WARNING', str(self.command.config), 'quiesce'
        )

    def test_empty_group(self) -> None:
        self.configure('[snapshot]\n')
        self.finding('[snapshot]', 'WARNING', 'nothing')

    @tables.rows(
        {
            'ours': ('a,snapshot_method', True),
            'others': ('a,snapshot_of_mine', False),
        }
    )
    def test_inheritance(self, value: str, is_found: bool) -> None:
        name = 'non_inheritable_image_properties'
        self.configure(f'{name} = {value}\n')
        if is_found:
            self.finding(name, 'WARNING', 'Keep them')
        else:
            self.assertNotIn(name, self.check()[1])

    def test_metrics(self) -> None:
        path = self.write('nova snapshot.prom')
        self.configure(f'[snapshot]\nmetrics_file = {path}\n')
        _, found = self.check()
        self.assertEqual('WARNING', found['Metrics'][0])
        self.assertIn(f"rm '{path}'", found['Metrics'][1])
        path.unlink()
        self.assertNotIn('Metrics', self.check()[1])

    @tables.rows(
        {
            'ours': (APPARMOR_LINE, True),
            'former': ('/var/lib/nova/instances/snapshots/*.nbd rw,\n', True),
            'comment': (f'#{APPARMOR_LINE}', False),
            'others': ('/srv/** r,\n', False),
        }
    )
    def test_apparmor(self, text: str, is_found: bool) -> None:
        self.write('apparmor', text)
        if is_found:
            self.finding('AppArmor', 'WARNING', 'systemctl reload apparmor')
        else:
            self.assertNotIn('AppArmor', self.check()[1])

    def test_link(self) -> None:
        """Uninstalled, the link leads nowhere."""
        link = self.root / 'packages/nova/virt/snapshot_driver'
        link.parent.mkdir(parents=True)
        link.symlink_to('/nonexistent')
        self.finding('Link', 'WARNING', f'rm {link}')

    def test_directory_is_no_link(self) -> None:
        self.write('packages/nova/virt/snapshot_driver/__init__.py')
        self.assertNotIn('Link', self.check()[1])

    @tables.rows(
        {
            'workspace': (f'{UUID}-x1y2', True),
            'socket': (f'libvirt-{UUID}.x1y2', True),
            'former_socket': (f'{UUID}.nbd', True),
            'of_nova': ('tmpabcd', False),
        }
    )
    def test_temporary_files(self, name: str, is_found: bool) -> None:
        snapshots = pathlib.Path(self.command.host.directories.snapshots)
        (snapshots / name).mkdir(parents=True)
        if is_found:
            self.finding('Snapshots directory', 'WARNING', name, 'Once no')
        else:
            self.assertNotIn('Snapshots directory', self.check()[1])

    def test_scratch_directory(self) -> None:
        self.configure(f'[snapshot]\nscratch_directory = {self.root}/s\n')
        self.assertNotIn('Scratch directory', self.check()[1])
        (self.root / 's' / f'{UUID}-x1y2').mkdir(parents=True)
        _, found = self.check()
        self.assertEqual('WARNING', found['Scratch directory'][0])

    def test_state_directory(self) -> None:
        self.write_state(f'{UUID}.lock')
        self.finding(
            'State directory',
            'WARNING',
            f'rm -r {self.command.host.directories.state}',
        )

    def test_what_this_user_may_not_see(self) -> None:
        path = str(self.root / 'x.prom')
        self.configure(f'[snapshot]\nmetrics_file = {path}\n')
        lstat = os.lstat

        def deny(asked: str) -> os.stat_result:
            if asked == path:
                raise PermissionError(13, 'Permission denied')
            return lstat(asked)

        with mock.patch.object(os, 'lstat', deny):
            _, found = self.check()
        self.assertEqual('WARNING', found['Metrics'][0])
        self.assertTrue(found['Metrics'][1].startswith(NOT_KNOWN))
