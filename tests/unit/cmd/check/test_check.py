# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pathlib
import types
import unittest
from collections.abc import Callable
from xml.etree import ElementTree

import ddt
import fixtures
import libvirt
import requests_mock
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import deployment
from nova_snapshot_driver.cmd.check import probe
from nova_snapshot_driver.cmd.check.deployment import Examination
from nova_snapshot_driver.common import landlock
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.transfer.nbd import libnbd
from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd.check import fake_nova_api
from tests.unit.cmd.check.test_service_user import CONFIGURED
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result
from tests.unit.cmd.fake_keystone import PASSWORD
from tests.unit.cmd.fake_keystone import TOKEN
from tests.unit.cmd.fake_keystone import FakeKeystone
from tests.unit.cmd.nova_prefix import NovaPrefix
from tests.unit.fake_cinder import FakeCinder
from tests.unit.fake_glance import ENDPOINT
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import unavailable
from tests.unit.fake_libvirt import Agent
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.hidden import Hidden
from tests.unit.host import RBD_DEVICES

EXAMINE = deployment.examine


class CheckCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.command_line()
        self.host = self.command.host
        self.host.glance.images.clear()
        # Hide a Nova of the machine that runs the tests.
        self.set_nova(lambda *_arguments: Examination([]))
        self.set_landlock(1)
        self.configure('')

    def command_line(self) -> CommandLine:
        command: CommandLine = self.useFixture(CommandLine())
        return command

    def set_landlock(self, version: int) -> None:
        self.useFixture(
            fixtures.MockPatchObject(landlock, 'version', lambda: version)
        )

    def set_nova(self, examine: Callable[..., Examination]) -> None:
        self.useFixture(
            fixtures.MockPatchObject(deployment, 'examine', examine)
        )

    def configure(self, text: str) -> None:
        self.command.config.write_text(
            f'[DEFAULT]\nstate_path = {self.host.root}/nova\n{text}'
        )

    def check(self, *arguments: str) -> tuple[int, dict[str, list[str]]]:
        """The exit status, and verdict and detail by subject."""
        result = self.command.to_glance(
            'check', '--format', 'json', *arguments
        )
        findings = {
            found['subject']: [found['verdict'], found['detail']]
            for found in result.json
        }
        self.assertEqual(len(result.json), len(findings))
        return result.status, findings

    def is_bad(self, subject: str, detail: str, *arguments: str) -> None:
        status, findings = self.check(*arguments)
        self.assertEqual(1, status)
        self.assertEqual('FAILURE', findings[subject][0])
        self.assertIn(detail, findings[subject][1])


@ddt.ddt
class HostTest(CheckCase):
    def test_no_landlock(self) -> None:
        self.set_landlock(0)
        status, findings = self.check()
        self.assertEqual(0, status)
        verdict, detail = findings['Data plane: confinement']
        self.assertEqual('WARNING', verdict)
        self.assertIn('has no Landlock', detail)

    def test_all_is_well(self) -> None:
        before = self.host.before()
        status, findings = self.check()
        self.assertEqual(0, status)
        self.assertEqual(
            [
                'Configuration',
                'Nova',
                'State directory',
                'Snapshots directory',
                'Data plane: confinement',
                'Data plane',
                'Data plane: streams',
                'Glance',
                'libvirt',
                'QEMU',
                'QEMU: directories',
            ],
            list(findings),
        )
        self.assertEqual('WARNING', findings.pop('Nova')[0])
        self.assertEqual(
            {'SUCCESS'}, {verdict for verdict, _ in findings.values()}
        )
        self.assertEqual('9.0.0', findings['libvirt'][1])
        self.assertEqual('7.2.22', findings['QEMU'][1])
        # The files of the trial are gone.
        self.assertEqual([], self.host.differences(before))
        self.assertEqual({}, self.host.glance.images)
        # Nova may be to have them under another user.
        self.assertFalse(os.path.exists(self.host.directories.snapshots))
        self.assertFalse(os.path.exists(self.host.directories.state))

    def test_in_words(self) -> None:
        result: Result = self.command.to_glance('check')
        self.assertEqual(0, result.status)
        self.assertIn('Data plane', result.output)
        self.assertIn('9.0.0', result.output)
        # The warning is that of a host without Nova.
        self.assertEqual('Ready: 1 warning', result.output.splitlines()[-1])

    def test_failure_in_words(self) -> None:
        self.command.no_libvirt = True
        result: Result = self.command.to_glance('check')
        self.assertEqual(
            'Not ready: 1 failure, 1 warning', result.output.splitlines()[-1]
        )

    def test_metrics(self) -> None:
        path = self.host.root / 'nova_snapshot.prom'
        self.configure(f'[snapshot]\nmetrics_file = {path}\n')
        _, findings = self.check()
        self.assertEqual(['SUCCESS', str(path)], findings['Metrics'])

    def test_metrics_in_a_directory_of_several(self) -> None:
        directory = self.host.root / 'textfile'
        directory.mkdir()
        directory.chmod(0o2775)
        path = directory / 'nova_snapshot.prom'
        self.configure(f'[snapshot]\nmetrics_file = {path}\n')
        self.is_bad('Metrics', 'it has the mode 2775')

    def test_metrics_without_a_directory(self) -> None:
        path = self.host.root / 'missing' / 'nova_snapshot.prom'
        self.configure(f'[snapshot]\nmetrics_file = {path}\n')
        self.is_bad('Metrics', 'nova-compute does not make it')

    @tables.rows(
        {
            'image': ('image', False, None),
            'volume': ('volume', True, 'SUCCESS'),
            'volume_without_ceph': ('volume', False, 'FAILURE'),
            'auto_without_ceph': ('auto', False, 'WARNING'),
        }
    )
    def test_target(
        self, target: str, has_driver: bool, verdict: str | None
    ) -> None:
        self.configure(f'[snapshot]\ntarget = {target}\n')
        self.host.qemu_img.has_drivers = has_driver
        _, findings = self.check()
        found, detail = findings.get('Snapshots to Cinder', (None, ''))
        self.assertEqual(verdict, found)
        if verdict and not has_driver:
            self.assertIn('qemu-block-extra', detail)

    def test_libnbd_of_another_python(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(
                libnbd, 'of_another_python', lambda: '/usr/lib/x.so'
            )
        )
        status, findings = self.check()
        self.assertEqual(0, status)
        verdict, detail = findings['Data plane: streams']
        self.assertEqual('WARNING', verdict)
        self.assertIn('/usr/lib/x.so is libnbd for another Python', detail)

    def test_misspelt_option(self) -> None:
        self.configure('[snapshot]\nqiesce = require\n')
        status, findings = self.check()
        self.assertEqual(0, status)
        self.assertEqual('WARNING', findings['[snapshot] qiesce'][0])

    def test_old_libvirt(self) -> None:
        self.host.connection.version = 7_010_000
        self.is_bad('libvirt', '7.10.0')

    def test_old_qemu(self) -> None:
        self.host.connection.qemu_version = 6_001_001
        self.is_bad('QEMU', '6.1.1')

    def test_no_libvirt(self) -> None:
        self.command.no_libvirt = True
        self.is_bad('libvirt', 'Is the daemon running')

    def test_data_plane(self) -> None:
        def fail() -> None:
            raise exception.CommandMissing(
                command='qemu-img', package='qemu-utils'
            )

        self.host.data_plane.at_extract = fail
        self.is_bad('Data plane', 'qemu-utils')

    def test_glance_is_away(self) -> None:
        self.host.glance.troubles = dict.fromkeys(range(1, 99), unavailable)
        self.is_bad('Glance', 'Service unavailable')

    def test_probe_is_deleted_where_it_does_not_arrive(self) -> None:
        def fail() -> None:
            raise exception.UploadFailed(
                image='x', attempts=1, reason='over quota'
            )

        self.host.data_plane.at_upload = fail
        self.is_bad('Glance', 'over quota')
        self.assertEqual({}, self.host.glance.images)

    def test_cloud_without_a_way_to_authenticate(self) -> None:
        """All else is looked at."""
        self.useFixture(
            fixtures.MockPatch(
                'openstack.config.cloud_region.CloudRegion.get_session',
                side_effect=ValueError('no plugin'),
            )
        )
        for name, value in {
            'OS_AUTH_URL': 'http://127.0.0.1:1/v3',
            'OS_USERNAME': 'alice',
            'OS_PASSWORD': 'secret',
            'OS_PROJECT_NAME': 'shop',
        }.items():
            self.useFixture(fixtures.EnvironmentVariable(name, value))
        result = self.command.run('check', '--format', 'json')
        found = {each['subject']: each for each in result.json}
        self.assertEqual('FAILURE', found['Glance']['verdict'])
        self.assertIn('no plugin', found['Glance']['detail'])
        self.assertEqual('SUCCESS', found['libvirt']['verdict'])

    def test_no_cloud(self) -> None:
        result = self.command.run('check', '--format', 'json')
        self.assertEqual(0, result.status)
        (glance,) = [f for f in result.json if f['subject'] == 'Glance']
        self.assertEqual('WARNING', glance['verdict'])
        self.assertIn('OS_CLOUD', glance['detail'])
        self.assertTrue(glance['detail'].startswith('Not known: '))

    def test_summary_of_what_is_not_known(self) -> None:
        self.assertEqual(
            'Ready, as far as known: 2 warnings',
            self.command.run('check').output.splitlines()[-1],
        )

    def test_summary_of_a_failure(self) -> None:
        """A failure is certain, whatever is not known beside it."""
        self.command.no_libvirt = True
        self.assertEqual(
            'Not ready: 1 failure, 2 warnings',
            self.command.run('check').output.splitlines()[-1],
        )

    def test_misspelt_option_in_a_directory(self) -> None:
        """oslo.config reads a directory of files too."""
        directory = self.host.root / 'nova.conf.d'
        directory.mkdir()
        (directory / 'ours.conf').write_text('[snapshot]\nqiesce = require\n')
        self.useFixture(
            fixtures.MockPatch(
                'oslo_config.cfg.find_config_dirs',
                return_value=[str(directory)],
            )
        )
        _, findings = self.check()
        self.assertEqual('WARNING', findings['[snapshot] qiesce'][0])
        self.assertIn(f'{directory}/ours.conf', findings['Configuration'][1])


class NovaCase(CheckCase):
    """A host with a Nova, and with all that the driver has to find."""

    OURS = 'compute_driver = snapshot_driver.LibvirtSnapshotDriver\n'

    def setUp(self) -> None:
        super().setUp()
        self.set_nova(EXAMINE)
        self.prefix = self.useFixture(NovaPrefix())
        self.prefix.add_nova()
        self.prefix.add_driver()
        self.configure(f'{self.OURS}{CONFIGURED}')
        mocker = requests_mock.Mocker()
        mocker.start()
        self.addCleanup(mocker.stop)
        self.mocker = mocker
        self.host.glance.mocked(mocker)
        self.keystone = FakeKeystone()
        self.keystone.roles = ['admin', 'service']
        self.keystone.mocked(mocker)
        self.cinder = FakeCinder([])
        self.cinder.mocked(mocker)
        fake_nova_api.answers(mocker, '1.2')

    def check(self, *arguments: str) -> tuple[int, dict[str, list[str]]]:
        """As the service user, to whom no argument names a cloud."""
        self.useFixture(
            fixtures.MockPatchObject(
                self.command, 'to_glance', self.command.run
            )
        )
        return super().check('--nova-python', self.prefix.python, *arguments)


class NovaTest(NovaCase):
    def test_all_is_well(self) -> None:
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertEqual(
            [
                *('Configuration', 'compute_driver', 'Nova', 'Driver'),
                *('Service user', 'Service token', 'Cinder', 'nova-api'),
                *('State directory', 'Snapshots directory'),
                *('Data plane: confinement', 'Data plane'),
                'Data plane: streams',
                'Glance',
            ],
            [*findings][:14],
        )
        self.assertEqual(
            {'SUCCESS'}, {verdict for verdict, _ in findings.values()}
        )
        self.assertIn(ENDPOINT, findings['Glance'][1])
        (created,) = [
            request
            for request in self.host.glance.requests
            if request.method == 'POST'
        ]
        for header in ('X-Auth-Token', 'X-Service-Token'):
            self.assertEqual(TOKEN, created.headers[header])
        self.assertEqual({}, self.host.glance.images)

    def test_nova_is_there_and_nobody_wants_it(self) -> None:
        """A Nova that does not use the driver."""
        self.configure('compute_driver = libvirt.LibvirtDriver\n')
        os.rename(
            self.prefix.site / 'nova_snapshot_driver', self.prefix.root / 'x'
        )
        status, findings = self.check()
        self.assertEqual(0, status)
        for subject in ('compute_driver', 'Driver', 'Service user', 'Glance'):
            self.assertEqual('WARNING', findings[subject][0])

    def test_driver_is_expected(self) -> None:
        self.assertEqual(0, self.check('--expect-driver')[0])

    def test_expected_driver_is_not_switched_on(self) -> None:
        self.configure(f'compute_driver = libvirt.LibvirtDriver\n{CONFIGURED}')
        self.assertEqual(0, self.check()[0])
        self.assertEqual(4, self.check('--expect-driver')[0])

    def test_expected_driver_is_not_installed(self) -> None:
        self.configure(f'compute_driver = libvirt.LibvirtDriver\n{CONFIGURED}')
        os.rename(
            self.prefix.site / 'nova_snapshot_driver', self.prefix.root / 'x'
        )
        self.is_bad('Driver', '--force-reinstall', '--expect-driver')

    def test_metrics_without_their_library(self) -> None:
        path = self.host.root / 'nova_snapshot.prom'
        self.configure(f'{self.OURS}[snapshot]\nmetrics_file = {path}\n')
        self.is_bad('Driver: metrics', 'prometheus_client is missing')

    def without_libnbd(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(
                libnbd, 'of_another_python', lambda: '/usr/lib/x.so'
            )
        )

    def streams(self) -> tuple[str, str]:
        status, findings = self.check()
        self.assertEqual(0, status)
        verdict, detail = findings['Data plane: streams']
        return verdict, detail

    def test_libnbd_of_nova_alone(self) -> None:
        """The Python of the command is not the one that counts."""
        self.without_libnbd()
        verdict, detail = self.streams()
        self.assertEqual('SUCCESS', verdict)
        self.assertIn(f'{self.prefix.python}, on which nova-compute', detail)
        self.assertIn('no libnbd to try it with', detail)

    def test_libnbd_of_the_command_alone(self) -> None:
        self.prefix.set_libnbd(is_available=False)
        verdict, detail = self.streams()
        self.assertEqual('WARNING', verdict)
        self.assertIn('libnbd is missing', detail)
        self.assertIn(f'nova-compute runs on {self.prefix.python}', detail)
        self.assertIn('in one pass by this command', detail)

    def test_data_plane_that_fails_counts_on_any_python(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(
                probe.Probe,
                'stream',
                side_effect=exception.LibnbdMissing(reason='broken'),
            )
        )
        self.is_bad('Data plane: streams', 'broken')

    def test_libnbd_where_nobody_could_ask(self) -> None:
        os.unlink(self.prefix.python)
        _, findings = self.check()
        verdict, detail = findings['Data plane: streams']
        self.assertEqual('WARNING', verdict)
        self.assertTrue(detail.startswith('Not known: '), detail)

    def test_not_found(self) -> None:
        (self.prefix.site / 'nova/virt/snapshot_driver/__init__.py').unlink()
        self.is_bad('Driver', '--force-reinstall')

    def test_options(self) -> None:
        self.configure(f'{self.OURS}[libvirt]\nvirt_type = lxc\n')
        status, findings = self.check()
        self.assertEqual(0, status)
        self.assertEqual('WARNING', findings['[libvirt] virt_type'][0])

    def test_value_that_is_not_valid(self) -> None:
        self.configure('[service_user]\nsend_service_user_token = perhaps\n')
        result = self.command.run('check', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('configuration-invalid', result.json['error']['code'])

    def test_cloud_that_is_named_goes_before_the_service_user(self) -> None:
        result = self.command.to_glance(
            *('check', '--nova-python', self.prefix.python, '--format', 'json')
        )
        self.assertEqual(0, result.status)
        self.assertNotEqual([], self.host.glance.requests)
        for request in self.host.glance.requests:
            self.assertNotIn('X-Auth-Token', request.headers)

    def test_several_servers(self) -> None:
        self.configure(
            f'{self.OURS}{CONFIGURED}'
            f'[glance]\napi_servers = http://a:9292,http://b:9292\n'
        )
        status, findings = self.check()
        self.assertEqual(0, status)
        for server in ('http://a:9292', 'http://b:9292'):
            self.assertEqual('SUCCESS', findings[f'Glance {server}'][0])

    def test_wrong_password(self) -> None:
        self.configure(f'{self.OURS}{CONFIGURED.replace(PASSWORD, "gu3ss")}')
        for subject in ('Service user', 'Glance'):
            self.is_bad(subject, 'Go away')

    def refuse(self, status: int) -> None:
        answer = Answer(status, {'error': {'message': 'Not for you'}})
        self.host.glance.troubles = dict.fromkeys(range(1, 99), lambda: answer)

    def test_glance_does_not_want_the_service_user(self) -> None:
        """The upload is made by another user."""
        self.refuse(403)
        status, findings = self.check()
        self.assertEqual(0, status)
        verdict, detail = findings['Glance']
        self.assertEqual('WARNING', verdict)
        self.assertIn('Not for you', detail)

    def test_glance_does_not_take_the_token(self) -> None:
        self.refuse(401)
        self.is_bad('Glance', 'Not for you')


class DirectoriesTest(CheckCase):
    def test_snapshots_directory(self) -> None:
        (self.host.root / 'snapshots').write_text('in the way')
        self.is_bad('Snapshots directory', 'snapshots_directory')
        _status, findings = self.check()
        for subject in ('Data plane', 'Data plane: streams', 'Glance'):
            verdict, detail = findings[subject]
            self.assertEqual('WARNING', verdict)
            self.assertTrue(detail.startswith('Not known: '), detail)

    def test_snapshots_directory_that_is_too_long(self) -> None:
        self.useFixture(fixtures.MockPatchObject(backup, 'LONGEST_ROOT', 1))
        _, findings = self.check()
        verdict, detail = findings['Snapshots directory: length']
        self.assertEqual('WARNING', verdict)
        self.assertIn('no room for the socket', detail)

    def test_state_directory(self) -> None:
        (self.host.root / 'state').write_text('in the way')
        self.is_bad('State directory', 'state_directory')

    def test_state_directory_of_somebody_else(self) -> None:
        os.mkdir(self.host.root / 'state')
        self.useFixture(fixtures.MockPatch('os.access', return_value=False))
        self.is_bad('State directory', 'cannot be written')

    @unittest.skipUnless(os.geteuid() == 0, 'only root can do that')
    def test_nova_is_somebody_else(self) -> None:
        self.host.root.chmod(0o711)
        nova = self.host.root / 'nova'
        nova.mkdir()
        os.chown(nova, 54321, 54321)
        status, findings = self.check()
        self.assertEqual(1, status)
        self.assertEqual('WARNING', findings['User'][0])
        self.assertIn(str(self.command.config), findings['User'][1])
        for directory in ('State directory', 'Snapshots directory'):
            self.assertEqual('FAILURE', findings[directory][0])
        self.assertEqual('SUCCESS', findings['Data plane'][0])


class DomainTest(CheckCase):
    SUBJECT = f'Domain {documents.NAME}'

    def test_all_is_well(self) -> None:
        before = self.host.before()
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertEqual(
            [self.SUBJECT, f'{self.SUBJECT}: agent', f'{self.SUBJECT}: space'],
            [subject for subject in findings if subject.startswith('Domain')],
        )
        self.assertIn('backup', findings[self.SUBJECT][1])
        self.assertIn(
            'what the guest overwrites', findings[f'{self.SUBJECT}: space'][1]
        )
        self.assertEqual([], self.host.differences(before))

    def test_conversion_takes_space(self) -> None:
        self.command.config.write_text('[libvirt]\nsnapshot_image_format=vmdk')
        _status, findings = self.check(documents.NAME)
        self.assertIn('up to 2 MiB', findings[f'{self.SUBJECT}: space'][1])

    def test_unknown(self) -> None:
        self.is_bad('Domain web-9', 'There is no domain', 'web-9')

    def test_one_bad_domain_does_not_hide_another(self) -> None:
        status, findings = self.check('web-9', documents.NAME)
        self.assertEqual(1, status)
        self.assertEqual('SUCCESS', findings[self.SUBJECT][0])

    def test_mute_agent(self) -> None:
        self.host.machine.agent = Agent.HANGS
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        verdict, detail = findings[f'{self.SUBJECT}: agent']
        self.assertEqual('WARNING', verdict)
        self.assertIn("within '10' seconds", detail)

    def test_mute_agent_that_is_required(self) -> None:
        self.host.machine.agent = Agent.HANGS
        self.configure('[snapshot]\nquiesce = require\n')
        self.is_bad(f'{self.SUBJECT}: agent', 'in the guest', documents.NAME)

    def test_agent_that_libvirt_has_lost(self) -> None:
        for agent in (Agent.CUT_OFF, Agent.UNHEARD):
            self.host.machine.cut_off_agent(agent)
            status, findings = self.check(documents.NAME)
            self.assertEqual(0, status)
            verdict, detail = findings[f'{self.SUBJECT}: agent']
            self.assertEqual('WARNING', verdict)
            self.assertIn('Restart the agent in the guest', detail)

    def test_agent_that_tells_no_time(self) -> None:
        self.host.machine.disabled = {'guest-get-time'}
        self.configure('[snapshot]\nquiesce = require\n')
        self.agent_is('SUCCESS', 'it answers; file systems on disks: 1')

    def test_agent_that_tells_nothing(self) -> None:
        self.host.machine.disabled = {'guest-get-time', 'guest-get-fsinfo'}
        self.agent_is('SUCCESS', 'it answers')

    def test_agent_with_nothing_to_freeze(self) -> None:
        self.host.machine.file_systems = 0
        self.agent_is('WARNING', 'no file system to freeze')

    def test_agent_with_nothing_to_freeze_that_is_required(self) -> None:
        self.host.machine.file_systems = 0
        self.configure('[snapshot]\nquiesce = require\n')
        self.is_bad(
            f'{self.SUBJECT}: agent',
            'no file system to freeze',
            documents.NAME,
        )

    def agent_is(self, verdict: str, detail: str) -> None:
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertEqual(verdict, findings[f'{self.SUBJECT}: agent'][0])
        self.assertIn(detail, findings[f'{self.SUBJECT}: agent'][1])

    def test_asleep(self) -> None:
        self.host.machine.state = libvirt.VIR_DOMAIN_PMSUSPENDED
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertIn('the guest is asleep', findings[self.SUBJECT][1])

    def test_shutting_down(self) -> None:
        self.host.machine.state = libvirt.VIR_DOMAIN_SHUTDOWN
        self.is_bad(self.SUBJECT, 'Wait until it has stopped', documents.NAME)

    def test_block_job(self) -> None:
        FakeDomain(self.host.machine).begin_copy('vda', '/backup')
        self.is_bad(f'{self.SUBJECT}: block job', 'copy', documents.NAME)

    def test_shut_off(self) -> None:
        self.host.machine.stop()
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertIn('cold', findings[self.SUBJECT][1])

    def test_space(self) -> None:
        full = types.SimpleNamespace(f_bavail=1, f_frsize=4096)
        self.useFixture(fixtures.MockPatch('os.statvfs', return_value=full))
        # For what the guest overwrites while a backup job runs.
        self.is_bad(f'{self.SUBJECT}: space', '1076 MiB', documents.NAME)


class QemuUserTest(CheckCase):
    """QEMU is a user of its own."""

    UID = os.geteuid() + 1

    def setUp(self) -> None:
        super().setUp()
        self.label = f'+{self.UID}:+{self.UID}'
        self.host.connection.qemu_label = self.label
        assert self.host.machine.live is not None
        label = ElementTree.SubElement(
            self.host.machine.live, 'seclabel', type='dynamic', model='dac'
        )
        ElementTree.SubElement(label, 'label').text = self.label
        self.host.root.chmod(0o711)
        self.snapshots = pathlib.Path(self.host.directories.snapshots)

    def test_may_pass(self) -> None:
        for is_there in (False, True):
            if is_there:
                self.snapshots.mkdir(0o711)
            status, findings = self.check(documents.NAME)
            self.assertEqual(0, status)
            self.assertIn(
                'not kept out by a mode', findings['QEMU: directories'][1]
            )

    def test_snapshots_directory(self) -> None:
        self.snapshots.mkdir(0o700)
        for subject in ('QEMU: directories', f'Domain {documents.NAME}'):
            self.is_bad(subject, f'chmod o+x {self.snapshots}', documents.NAME)

    def test_directory_above_one_that_is_not_there_yet(self) -> None:
        self.host.root.chmod(0o700)
        self.is_bad('QEMU: directories', f'chmod o+x {self.host.root}"')

    def test_scratch_directory(self) -> None:
        scratch = self.host.root / 'scratch'
        scratch.mkdir(0o700)
        self.configure(f'[snapshot]\nscratch_directory = {scratch}\n')
        self.is_bad('QEMU: directories', '[snapshot] scratch_directory')
        _, findings = self.check(documents.NAME)
        self.assertIn('MiB free', findings['Scratch directory'][1])
        verdict, detail = findings[f'Domain {documents.NAME}']
        self.assertEqual('SUCCESS', verdict)
        self.assertIn('mirror', detail)
        self.assertIn(f'may not enter {scratch}', detail)

    def test_hidden(self) -> None:
        """QEMU may pass a directory that this process may not look into."""
        scratch = f'{self.snapshots}/scratch'
        self.configure(f'[snapshot]\nscratch_directory = {scratch}\n')
        self.useFixture(Hidden(self.snapshots))
        _, findings = self.check()
        verdict, detail = findings['QEMU: directories']
        self.assertEqual('WARNING', verdict)
        self.assertIn(
            f'Not known: {self.snapshots}/scratch cannot be looked', detail
        )

    def test_no_user_of_its_own(self) -> None:
        self.host.connection.qemu_label = ''
        self.host.root.chmod(0o700)
        _, findings = self.check()
        self.assertEqual('SUCCESS', findings['QEMU: directories'][0])


class CephTest(CheckCase):
    """The root disk is in Ceph."""

    def command_line(self) -> CommandLine:
        command: CommandLine = self.useFixture(CommandLine(RBD_DEVICES))
        return command

    def ceph(self) -> list[str]:
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertIn(
            'direct', findings[f'Domain {documents.NAME}'][1].split()
        )
        self.assertEqual(
            'none is needed', findings[f'Domain {documents.NAME}: space'][1]
        )
        return findings[f'Domain {documents.NAME}: Ceph']

    def test_pool(self) -> None:
        verdict, detail = self.ceph()
        self.assertEqual('SUCCESS', verdict)
        self.assertIn('into the pool images', detail)
        self.assertEqual(['ceph fsid', 'rbd info'], self.host.ceph.commands)

    def test_no_clone(self) -> None:
        self.host.disk.parent = None
        verdict, detail = self.ceph()
        self.assertEqual('WARNING', verdict)
        self.assertIn('is no clone', detail)

    def test_no_command(self) -> None:
        self.host.ceph.is_installed = False
        verdict, detail = self.ceph()
        self.assertEqual('WARNING', verdict)
        self.assertIn('ceph-common', detail)
