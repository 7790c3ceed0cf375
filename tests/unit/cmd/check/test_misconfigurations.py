# SPDX-License-Identifier: Apache-2.0
"""All misconfigurations that check names, each on a host that is fine else.

What needs a cloud to be shown is in ``tests/openstack``.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping

import ddt
import fixtures
import libvirt

from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check.libraries import STREAMS
from nova_snapshot_driver.snapshot.capture import backup
from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd import fake_keystone
from tests.unit.cmd.check import mistakes
from tests.unit.cmd.check.test_check import NovaCase
from tests.unit.cmd.check.test_service_user import CONFIGURED
from tests.unit.cmd.check.test_service_user import CREDENTIALS
from tests.unit.cmd.check.test_service_user import SENT
from tests.unit.cmd.fake_keystone import PASSWORD
from tests.unit.cmd.nova_prefix import write
from tests.unit.fake_libvirt import Agent
from tests.unit.fake_libvirt import FakeDomain

APP = '[app:osapi_compute_app_v21]\npaste.app_factory = {}\n'

LIBVIRT = 'libvirt-python>=9.0.0; extra == "libvirt"'

DOMAIN = f'Domain {documents.NAME}'

#: The mistake, then the finding: subject, verdict, part of the detail; then
#: the exit status.
Row = tuple[mistakes.Mistake, str, str, str, int]

S, W, F = 'SUCCESS', 'WARNING', 'FAILURE'


CONFIGURATION: Mapping[str, Row] = {
    'nova_compute_conf_is_not_given': (
        lambda case: case.command.config.with_name(
            'nova-compute.conf'
        ).write_text(''),
        *('Configuration', W, 'Give it too: --config-file', 0),
    ),
    'driver_is_not_set': (
        lambda case: case.configure(CONFIGURED),
        *('compute_driver', W, 'Write in [DEFAULT]: compute_driver', 0),
    ),
    'driver_of_nova': (
        mistakes.driver('libvirt.LibvirtDriver'),
        *('compute_driver', W, 'Write in [DEFAULT]: compute_driver', 0),
    ),
    'driver_is_misspelt': (
        mistakes.driver('snapshot_driver.LibvirtDriver'),
        *('compute_driver', F, 'Write in [DEFAULT]: compute_driver', 1),
    ),
    'another_hypervisor': (
        mistakes.driver('fake.FakeDriver'),
        *('compute_driver', W, 'for another hypervisor', 0),
    ),
    'option_is_misspelt': (
        mistakes.options('[snapshot]\nqiesce = require\n'),
        *('[snapshot] qiesce', W, 'Is quiesce meant?', 0),
    ),
    'option_is_deprecated': (
        mistakes.options('[snapshot]\npath = auto\n'),
        *('[snapshot] path', W, 'It is called method now', 0),
    ),
    'virt_type': (
        mistakes.options('[libvirt]\nvirt_type = lxc\n'),
        *('[libvirt] virt_type', W, "Nova's own driver takes", 0),
    ),
    'live_snapshots_are_off': (
        mistakes.options(
            '[workarounds]\ndisable_libvirt_livesnapshot = true\n'
        ),
        '[workarounds] disable_libvirt_livesnapshot',
        *(W, 'Take the option out', 0),
    ),
    'encryption': (
        mistakes.options('[ephemeral_storage_encryption]\nenabled = true\n'),
        '[ephemeral_storage_encryption] enabled',
        *(W, 'Take the option out', 0),
    ),
    'api_paste_of_nova': (
        mistakes.api_paste(
            APP.format('nova.api.openstack.compute:APIRouterV21.factory')
        ),
        *('api-paste.ini', W, 'Write in [app:osapi_compute_app_v21]', 0),
    ),
    'api_paste_in_another_section': (
        mistakes.api_paste(
            APP.format('nova.api.openstack.compute:APIRouterV21.factory')
            + '[app:other]\n'
            'paste.app_factory = nova_snapshot_driver.nova.api:app_factory\n'
        ),
        *('api-paste.ini', F, 'Write in [app:osapi_compute_app_v21]', 1),
    ),
    'api_paste_is_misspelt': (
        mistakes.api_paste(APP.format('nova_snapshot_driver.api:app_factory')),
        *('api-paste.ini', F, 'Write in [app:osapi_compute_app_v21]', 1),
    ),
    'running_nova_api_could_not_be_asked': (
        mistakes.several(
            mistakes.api_paste(
                APP.format('nova_snapshot_driver.nova.api:app_factory')
            ),
            # Keystone's catalog has no nova-api then.
            lambda case: setattr(case.keystone, 'nova_urls', {}),
        ),
        *('nova-api', W, 'Not known: whether the nova-api that runs', 0),
    ),
}

INSTALLATION: Mapping[str, Row] = {
    'no_python': (
        lambda case: os.unlink(case.prefix.python),
        *('Nova', F, 'Name the Python', 1),
    ),
    'no_nova': (
        mistakes.uninstalled('nova'),
        *('Nova', F, 'has no Nova. Name the Python', 1),
    ),
    'another_nova': (
        mistakes.uninstalled('nova/virt'),
        *('Nova', F, "is not OpenStack's Nova", 1),
    ),
    'broken_nova': (
        lambda case: write(
            case.prefix.site / 'nova/virt/driver.py', 'import oslo_missing\n'
        ),
        *('Nova', F, 'Mend that first', 1),
    ),
    'old_nova': (
        lambda case: case.prefix.set_version('nova', '32.1.0'),
        *('Nova', W, 'not tried with this one', 0),
    ),
    'not_installed': (
        mistakes.several(
            mistakes.uninstalled('nova_snapshot_driver'),
            mistakes.uninstalled('nova/virt/snapshot_driver'),
        ),
        *('Driver', F, 'Install it there: ', 1),
    ),
    'not_beside_nova': (
        mistakes.several(
            mistakes.uninstalled('nova_snapshot_driver'),
            mistakes.uninstalled('nova/virt/snapshot_driver'),
            lambda case: case.prefix.add_path(case.prefix.root / 'x'),
            lambda case: case.prefix.add_driver(case.prefix.root / 'x'),
        ),
        *('Driver', F, 'ln -s ', 1),
    ),
    'half_of_it': (
        mistakes.uninstalled('nova/virt/snapshot_driver'),
        *('Driver', F, '--force-reinstall', 1),
    ),
    'another_version': (
        lambda case: case.prefix.set_version('nova-snapshot-driver', '0.0.0'),
        *('Driver', W, 'pip install --upgrade', 0),
    ),
    'no_metadata': (
        lambda case: case.prefix.remove_distribution('nova-snapshot-driver'),
        *('Driver', W, 'Not known: ', 0),
    ),
    'requirement_is_missing': (
        mistakes.installed(compute='import tenacity.nap\n'),
        *('Driver', F, 'Install what it needs: ', 1),
    ),
    'requirement_is_old': (
        mistakes.several(
            lambda case: case.prefix.add_distribution('tenacity', '7.0'),
            mistakes.installed(requires=('tenacity>=8.2.3',)),
        ),
        *('Driver: requirements', W, "pip install 'tenacity>=8.2.3'", 0),
    ),
    'no_libvirt_python': (
        lambda case: (case.prefix.site / 'libvirt.py').unlink(),
        *('Driver: libvirt', F, 'pip install libvirt-python', 1),
    ),
    'old_libvirt_python': (
        mistakes.several(
            lambda case: case.prefix.add_distribution(
                'libvirt-python', '8.0.0'
            ),
            mistakes.installed(requires=(LIBVIRT,)),
        ),
        *('Driver: requirements', W, "'libvirt-python>=9.0.0'", 0),
    ),
    'no_prometheus_client': (
        mistakes.with_option('[snapshot]\nmetrics_file = {root}/a.prom\n'),
        *('Driver: metrics', F, 'pip install prometheus-client', 1),
    ),
    'no_libnbd': (
        lambda case: case.prefix.set_libnbd(is_available=False),
        *(STREAMS, W, 'Install the package python3-libnbd', 0),
    ),
    'libnbd_of_another_python': (
        lambda case: case.prefix.set_libnbd(False, '/usr/lib/x.so'),
        *(STREAMS, W, "Install the driver for the distribution's own", 0),
    ),
    'driver_does_not_say_of_libnbd': (
        mistakes.uninstalled('nova_snapshot_driver/transfer'),
        *(STREAMS, W, 'Not known: ', 0),
    ),
}

CLOUD: Mapping[str, Row] = {
    'no_service_user': (
        mistakes.service_user(''),
        *('Service user', W, '[service_user]\nsend_service_user', 0),
    ),
    'service_user_without_credentials': (
        mistakes.service_user(SENT),
        *('Service user', F, '[service_user]\nsend_service_user', 1),
    ),
    'wrong_password': (
        mistakes.service_user(CONFIGURED.replace(PASSWORD, 'gu3ss')),
        *('Service user', F, 'Go away', 1),
    ),
    'keystone_is_away': (
        lambda case: fake_keystone.away(case.mocker),
        *('Service user', F, 'no route', 1),
    ),
    'service_user_is_no_admin': (
        mistakes.roles('service'),
        *('Service user', W, 'openstack role add', 0),
    ),
    'service_token_is_not_sent': (
        mistakes.service_user(f'[service_user]\n{CREDENTIALS}'),
        *('Service token', W, 'send_service_user_token = true', 0),
    ),
    'service_token_without_its_role': (
        mistakes.roles('admin'),
        *('Service token', F, 'openstack role add', 1),
    ),
    'cinder_cannot_be_asked': (
        mistakes.service_user(''),
        *('Cinder', W, 'Not known: neither [cinder] nor', 0),
    ),
    'cinder_is_not_in_the_catalog': (
        lambda case: setattr(case.keystone, 'has_cinder', False),
        *('Cinder', W, 'correct [cinder] catalog_info', 0),
    ),
    'cinder_in_another_region': (
        mistakes.options('[cinder]\nos_region_name = Atlantis\n'),
        *('Cinder', W, 'correct [cinder] catalog_info', 0),
    ),
    'cinder_by_a_wrong_template': (
        mistakes.options(
            '[cinder]\nendpoint_template = http://c/%(nothing)s\n'
        ),
        *('Cinder', F, 'Do [cinder] and [service_user] hold', 1),
    ),
    'cinder_refuses': (
        mistakes.cinder_answers(401),
        *('Cinder', F, 'Is it the address of Cinder', 1),
    ),
    'something_else_than_cinder': (
        mistakes.cinder_answers(200, {}),
        *('Cinder', F, 'Is it the address of Cinder', 1),
    ),
    'cinder_without_admin': (
        mistakes.roles('service'),
        *('Cinder', W, 'openstack role add', 0),
    ),
    'glance_is_away': (
        mistakes.glance_answers(503),
        *('Glance', F, 'Not for you', 1),
    ),
    'glance_does_not_take_the_token': (
        mistakes.glance_answers(401),
        *('Glance', F, 'Not for you', 1),
    ),
    'glance_forbids_the_service_user': (
        mistakes.glance_answers(403),
        *('Glance', W, 'That is not in the way of a snapshot', 0),
    ),
}

HOST: Mapping[str, Row] = {
    'user_is_hidden': (
        mistakes.hidden('nova'),
        *('User', W, 'Not known: ', 0),
    ),
    'file_in_place_of_the_state_directory': (
        lambda case: (case.host.root / 'state').write_text(''),
        *('State directory', F, '[snapshot] state_directory', 1),
    ),
    'state_directory_for_others_to_write': (
        mistakes.mode('state', 0o777),
        *('State directory', F, 'chmod', 1),
    ),
    'state_directory_and_another_user': (
        mistakes.another_user_checks,
        *('State directory', W, 'Not known: whether root can use', 0),
    ),
    'snapshots_directory_cannot_be_written': (
        mistakes.replaced('os.access', lambda *_arguments: False),
        *('Snapshots directory', F, 'as root: install -d', 1),
    ),
    'snapshots_directory_and_another_user': (
        mistakes.another_user_checks,
        *('Snapshots directory', W, 'Not known: whether root can use', 0),
    ),
    'glance_without_a_directory': (
        lambda case: (case.host.root / 'snapshots').write_text(''),
        *('Glance', W, 'Not known: ', 1),
    ),
    'path_without_room_for_a_socket': (
        lambda case: case.useFixture(
            fixtures.MockPatchObject(backup, 'LONGEST_ROOT', 1)
        ),
        *('Snapshots directory: length', W, 'Set [libvirt]', 0),
    ),
    'path_without_room_for_the_socket_of_the_method': (
        mistakes.several(
            lambda case: case.useFixture(
                fixtures.MockPatchObject(backup, 'LONGEST_ROOT', 1)
            ),
            mistakes.options('[snapshot]\nmethod = backup\n'),
        ),
        *('Snapshots directory: length', F, 'Set [libvirt]', 1),
    ),
    'metrics_without_a_directory': (
        mistakes.with_option(
            '[snapshot]\nmetrics_file = {root}/none/a.prom\n'
        ),
        *('Metrics', F, 'nova-compute does not make it', 1),
    ),
    'kernel_without_landlock': (
        lambda case: case.set_landlock(0),
        *('Data plane: confinement', W, 'Enable it with lsm=landlock', 0),
    ),
    'no_qemu_img': (
        lambda case: setattr(
            case.host.data_plane, 'at_extract', mistakes.no_qemu_img
        ),
        *('Data plane', F, 'qemu-utils', 1),
    ),
    'libvirt_is_away': (
        lambda case: setattr(case.command, 'no_libvirt', True),
        *('libvirt', F, 'Is the daemon running', 1),
    ),
    'old_libvirt': (
        lambda case: setattr(case.host.connection, 'version', 7_010_000),
        *('libvirt', F, '7.10.0', 1),
    ),
    'old_qemu': (
        lambda case: setattr(case.host.connection, 'qemu_version', 6_001_001),
        *('QEMU', F, '6.1.1', 1),
    ),
    'qemu_may_not_pass': (
        mistakes.several(
            mistakes.qemu_is_somebody_else, mistakes.mode('.', 0o700)
        ),
        *('QEMU: directories', F, 'chmod o+x', 1),
    ),
    'nobody_can_tell_whether_qemu_may_pass': (
        mistakes.several(
            mistakes.qemu_is_somebody_else,
            mistakes.mode('.', 0o711),
            mistakes.hidden('snapshots'),
            mistakes.with_option(
                '[snapshot]\nscratch_directory = {root}/snapshots/x\n'
            ),
        ),
        *('QEMU: directories', W, 'Not known: ', 0),
    ),
}

DOMAINS: Mapping[str, Row] = {
    'agent_that_is_required_hangs': (
        mistakes.several(
            mistakes.agent_hangs,
            mistakes.options('[snapshot]\nquiesce = require\n'),
        ),
        *(f'{DOMAIN}: agent', F, 'in the guest', 1),
    ),
    'agent_hangs': (
        mistakes.agent_hangs,
        *(f'{DOMAIN}: agent', W, 'does not answer', 0),
    ),
    'agent_is_lost': (
        lambda case: case.host.machine.cut_off_agent(Agent.CUT_OFF),
        *(f'{DOMAIN}: agent', W, 'Restart the agent in the guest', 0),
    ),
    'block_job': (
        lambda case: FakeDomain(case.host.machine).begin_copy('vda', '/b'),
        *(f'{DOMAIN}: block job', F, 'until it has ended', 1),
    ),
    'shutting_down': (
        lambda case: setattr(
            case.host.machine, 'state', libvirt.VIR_DOMAIN_SHUTDOWN
        ),
        *(DOMAIN, F, 'Wait until it has stopped', 1),
    ),
    'no_space': (
        mistakes.replaced(
            'os.statvfs',
            lambda _path: types.SimpleNamespace(f_bavail=1, f_frsize=4096),
        ),
        *(f'{DOMAIN}: space', F, 'MiB', 1),
    ),
}


@ddt.ddt
class MisconfigurationsTest(NovaCase):
    def setUp(self) -> None:
        super().setUp()
        # Hide the files of the machine that runs the tests.
        self.useFixture(
            fixtures.MockPatchObject(
                api_paste, 'USUAL_DIRECTORY', str(self.host.root / 'usual')
            )
        )

    @tables.rows({**CONFIGURATION, **INSTALLATION, **CLOUD, **HOST, **DOMAINS})
    def test_named(
        self,
        mistake: mistakes.Mistake,
        subject: str,
        verdict: str,
        detail: str,
        status: int,
    ) -> None:
        mistake(self)
        actual, findings = self.check(documents.NAME)
        self.assertIn(subject, findings)
        self.assertEqual(verdict, findings[subject][0])
        self.assertIn(detail, findings[subject][1])
        self.assertEqual(status, actual)

    def test_none(self) -> None:
        status, findings = self.check(documents.NAME)
        self.assertEqual(0, status)
        self.assertEqual({S}, {verdict for verdict, _ in findings.values()})

    @tables.rows(
        {
            'driver_is_not_switched_on': ('libvirt.LibvirtDriver', 4),
            'driver_is_not_set': ('', 4),
            'driver_is_misspelt': ('snapshot_driver.LibvirtDriver', 1),
        }
    )
    def test_driver_is_expected(self, value: str, status: int) -> None:
        mistakes.driver(value)(self)
        self.assertEqual(status, self.check('--expect-driver')[0])

    @tables.rows(
        {
            'value_of_nova': (
                '[service_user]\nsend_service_user_token = perhaps\n',
            ),
            'value_of_ours': ('[snapshot]\nquiesce = perhaps\n',),
            'no_option_file': ('quiesce\n',),
        }
    )
    def test_configuration_that_cannot_be_read(self, text: str) -> None:
        """Nothing is looked at by a configuration that nobody has written."""
        mistakes.options(text)(self)
        result = self.command.run('check', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('configuration-invalid', result.json['error']['code'])
