# SPDX-License-Identifier: Apache-2.0
"""The remedies of ``nova-snapshot check``, run as they are printed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import ClassVar

from lab.cloud.install import CloudInstall
from lab.cloud.libvirtd import Libvirtd
from lab.directory import lab_directory
from tests.openstack.deployment import mistakes
from tests.openstack.deployment.report import Report
from tests.openstack.deployment.test_check import EXPECTED
from tests.openstack.deployment.test_check import CheckTest

#: The value of ``compute_driver``.
OURS = 'snapshot_driver.LibvirtSnapshotDriver'

#: A user that is on every host, and its group.
NOBODY = ('nobody', 'nogroup')


class RemedyTest(CheckTest):
    def check(self, *arguments: str) -> Report:
        return self.host.check('--expect-driver', *arguments)

    def assert_ready(self, report: Report) -> None:
        self.assertEqual(set(), report.of_verdict('FAILURE'))
        self.assertEqual(mistakes.READY, report.status)


class ServiceUserTest(RemedyTest):
    """A service user that lacks a role: ``openstack role add``."""

    def setUp(self) -> None:
        super().setUp()
        # A type of the SDK that may be a proxy of version 2, which Keystone
        # lacks.
        keystone: Any = self.admin.identity
        self.keystone = keystone
        self.roles = {role.name: role for role in keystone.roles()}
        self.project = keystone.find_project('service')
        name, password = f'check-{uuid.uuid4().hex[:6]}', uuid.uuid4().hex
        self.user = self.keystone.create_user(
            name=name, password=password, domain_id='default'
        )
        self.addCleanup(self.keystone.delete_user, self.user)
        self.host.put('service_user', 'username', name)
        self.host.put('service_user', 'password', password)

    def give(self, role: str) -> None:
        self.keystone.assign_project_role_to_user(
            self.project, self.user, self.roles[role]
        )

    def test_no_role(self) -> None:
        """Keystone gives no token at all."""
        report = self.check()
        report.about('Service user', 'FAILURE', 'HTTP 401')
        self.assertEqual(mistakes.NOT_READY, report.status)

    def test_without_service(self) -> None:
        self.give('admin')
        report = self.check()
        report.about('Service token', 'FAILURE')
        self.assertEqual(mistakes.NOT_READY, report.status)
        self.host.shell(
            report.command(
                'Service token', 'FAILURE', r'(openstack role add .*)'
            )
        )
        report = self.check()
        self.assert_ready(report)
        self.assertEqual(EXPECTED, report.of_verdict('WARNING'))

    def test_without_admin(self) -> None:
        self.give('service')
        report = self.check()
        report.about('Service user', 'WARNING')
        self.assertEqual(mistakes.READY, report.status)
        self.host.shell(
            report.command(
                'Service user', 'WARNING', r'(openstack role add .*)'
            )
        )
        report = self.check()
        self.assert_ready(report)
        self.assertEqual(EXPECTED, report.of_verdict('WARNING'))


class DirectoriesTest(RemedyTest):
    """A directory that others write to, or of somebody else."""

    def place(self, name: str, mode: int) -> Path:
        path = self.directory / name
        path.mkdir()
        path.chmod(mode)
        return path

    def assert_mended(self, subject: str, pattern: str) -> None:
        report = self.check()
        report.about(subject, 'FAILURE')
        self.assertEqual(mistakes.NOT_READY, report.status)
        self.host.shell(report.command(subject, 'FAILURE', pattern))
        self.assert_ready(self.check())

    def test_state_directory_for_everybody(self) -> None:
        path = self.place('state', 0o777)
        self.host.put('snapshot', 'state_directory', str(path))
        self.assert_mended('State directory', r'(chmod go-w \S+)')

    def test_metrics_for_a_group(self) -> None:
        path = self.place('metrics', 0o2775)
        self.host.put('snapshot', 'metrics_file', f'{path}/nova.prom')
        self.assert_mended('Metrics', r'(chmod go-w \S+)')

    def test_nova_of_somebody_else(self) -> None:
        """By the owner of its files, nova-compute is not root."""
        state = self.place('nova', 0o755)
        os.chown(state, pwd.getpwnam('nobody').pw_uid, -1)
        self.directory.chmod(0o711)
        self.host.put('DEFAULT', 'state_path', str(state))
        self.host.put('DEFAULT', 'instances_path', str(state))
        (state / 'snapshots').mkdir(0o711)
        (state / 'snapshot-driver').mkdir(0o700)
        report = self.check()
        report.about('User', 'WARNING', 'sudo -u nobody')
        for subject in ('State directory', 'Snapshots directory'):
            report.about(subject, 'FAILURE', 'cannot be written by nobody')
            self.host.shell(
                report.command(
                    subject, 'FAILURE', r'as root: (chown .*) \(option'
                )
            )
        report = self.check()
        for subject in ('State directory', 'Snapshots directory'):
            report.about(subject, 'SUCCESS')


class QemuUserTest(RemedyTest):
    """A host whose QEMU is another user, and may not come to a directory."""

    libvirtd: ClassVar[Libvirtd]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = lab_directory() / 'qemu-user'
        cls.addClassCleanup(shutil.rmtree, directory)
        cls.libvirtd = Libvirtd(directory, NOBODY)
        cls.addClassCleanup(cls.libvirtd.stop)
        cls.libvirtd.start()

    def setUp(self) -> None:
        super().setUp()
        self.host.put('libvirt', 'connection_uri', self.libvirtd.uri)
        # The checkout may be where nobody else comes to.
        place = tempfile.TemporaryDirectory(dir='/tmp')
        self.addCleanup(place.cleanup)
        self.shut = Path(place.name)

    def assert_mended(self, group: str, option: str) -> None:
        self.host.put(group, option, f'{self.shut}/there')
        report = self.check()
        report.about(
            'QEMU: directories',
            'FAILURE',
            'QEMU runs as nobody',
            f'[{group}] {option}',
        )
        self.assertEqual(mistakes.NOT_READY, report.status)
        self.host.shell(
            report.command(
                'QEMU: directories', 'FAILURE', r'"(chmod o\+x .*?)"'
            )
        )
        self.assert_ready(self.check())

    def test_snapshots_directory(self) -> None:
        self.assert_mended('libvirt', 'snapshots_directory')

    def test_scratch_directory(self) -> None:
        self.host.put('libvirt', 'snapshots_directory', '/tmp/snapshots')
        self.assert_mended('snapshot', 'scratch_directory')


class InstallationTest(RemedyTest):
    """A driver that is not where Nova looks."""

    def setUp(self) -> None:
        super().setUp()
        nova = self.cloud.install
        self.python = str(nova.python)
        self.package = next(
            nova.directory.glob('lib/python3*/site-packages/nova/virt')
        )
        self.addCleanup(self.install)

    def install(self) -> None:
        self.host.shell(f'{self.python} -m pip install nova-snapshot-driver')

    def test_not_installed(self) -> None:
        """The command line may be in another environment than Nova."""
        elsewhere = CloudInstall.find().programs / 'nova-snapshot'
        self.host.shell('pip uninstall nova-snapshot-driver')
        report = self.host.check(
            *('--expect-driver', '--nova-python', self.python),
            program=str(elsewhere),
        )
        report.about('Driver', 'FAILURE', 'It is not installed where Nova is')
        self.assertEqual(mistakes.NOT_READY, report.status)
        self.host.shell(
            report.command(
                'Driver', 'FAILURE', r'Install it there: (.* pip install .*)'
            )
        )
        self.assert_ready(self.check())

    def test_half_installed(self) -> None:
        (self.package / 'snapshot_driver/__init__.py').unlink()
        report = self.check()
        report.about('Driver', 'FAILURE')
        self.host.shell(
            report.command('Driver', 'FAILURE', r'for all to read: (.*)')
        )
        self.assert_ready(self.check())


class LibrariesTest(RemedyTest):
    """A library that the Python of nova-compute lacks."""

    @contextlib.contextmanager
    def hidden(self, pattern: str) -> Iterator[None]:
        """Hide a library, as far as nobody imports it meanwhile."""
        [library] = self.cloud.install.directory.glob(
            f'lib/python3*/site-packages/{pattern}'
        )
        away = library.rename(self.directory / library.name)
        try:
            yield
        finally:
            away.rename(library)

    def test_no_prometheus_client(self) -> None:
        metrics = self.directory / 'metrics'
        metrics.mkdir(0o755)
        self.host.put('snapshot', 'metrics_file', f'{metrics}/nova.prom')
        with self.hidden('prometheus_client'):
            report = self.check()
        report.about(
            *('Driver: metrics', 'FAILURE', 'prometheus_client is missing'),
            f'{self.cloud.install.python} -m pip install prometheus-client',
            'python3-prometheus-client',
        )
        self.assertEqual(mistakes.NOT_READY, report.status)
        self.assert_ready(self.check())

    def test_requirement_that_is_not_met(self) -> None:
        with self.hidden('rich-*.dist-info'):
            report = self.check()
        report.about(
            *('Driver: requirements', 'WARNING', 'rich'),
            f'{self.cloud.install.python} -m pip install',
        )
        self.assertEqual(mistakes.READY, report.status)


class CommandLineTest(RemedyTest):
    """Arguments that name something else than what nova-compute has."""

    def test_python_that_is_none(self) -> None:
        report = self.check('--nova-python', '/nowhere/python')
        report.about('Nova', 'FAILURE', 'cannot be run', '--nova-python')
        self.assertEqual(mistakes.NOT_READY, report.status)

    def test_python_that_gives_no_answer(self) -> None:
        report = self.check('--nova-python', '/bin/true')
        report.about('Nova', 'FAILURE', 'gave no answer', '--nova-python')
        self.assertEqual(mistakes.NOT_READY, report.status)

    def test_python_without_nova(self) -> None:
        report = self.check('--nova-python', '/usr/bin/python3')
        report.about('Nova', 'FAILURE', 'has no Nova', '--nova-python')
        self.assertEqual(mistakes.NOT_READY, report.status)

    def test_one_file_of_two(self) -> None:
        """As the packages of Debian have them; the remedy is arguments."""
        self.host.put('DEFAULT', 'compute_driver', None)
        (self.host.etc / 'nova-compute.conf').write_text(
            f'[DEFAULT]\ncompute_driver = {OURS}\n'
        )
        report = self.check('--config-file', f'{self.host.etc}/nova.conf')
        report.about('Configuration', 'WARNING', 'nova-compute.conf was not')
        self.assertEqual(mistakes.NOT_SWITCHED_ON, report.status)
        arguments = report.command('Configuration', 'WARNING', r'too: (.*)')
        self.assert_ready(self.check(*arguments.split()))

    def test_file_that_is_not_there(self) -> None:
        report = self.check('--config-file', f'{self.host.etc}/nva.conf')
        report.about('configuration-invalid', 'ERROR', 'nva.conf')
        self.assertEqual(mistakes.NOT_READY, report.status)

    def test_file_that_is_broken(self) -> None:
        path = self.host.etc / 'nova.conf'
        path.write_text(f'compute_driver\n{path.read_text()}')
        report = self.check()
        report.about('configuration-invalid', 'ERROR', 'nova.conf')
        self.assertEqual(mistakes.NOT_READY, report.status)
