# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the configuration of Nova, and what a check says of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lab.cloud.options import DRIVER_API
from lab.cloud.options import STOCK_API

READY = 0
NOT_READY = 1
NOT_SWITCHED_ON = 4

#: Nothing listens there.
NOWHERE = 'http://127.0.0.1:9'

APP = 'app:osapi_compute_app_v21'
FACTORY = 'paste.app_factory'


@dataclasses.dataclass(frozen=True)
class Mistake:
    """Options that are wrong.

    :ivar options: values by group and name; None: the option is taken out
    :ivar subject: of the finding
    :ivar words: of what is wrong, and of the remedy
    :ivar status: of the check
    """

    options: Mapping[tuple[str, str], str | None]
    subject: str
    verdict: str
    words: tuple[str, ...]
    status: int


def failure(
    options: Mapping[tuple[str, str], str | None], subject: str, *words: str
) -> tuple[Mistake]:
    return (Mistake(options, subject, 'FAILURE', words, NOT_READY),)


def warning(
    options: Mapping[tuple[str, str], str | None],
    subject: str,
    *words: str,
    status: int = READY,
) -> tuple[Mistake]:
    return (Mistake(options, subject, 'WARNING', words, status),)


def _service_user(**options: str | None) -> dict[tuple[str, str], str | None]:
    return {('service_user', name): value for name, value in options.items()}


#: The options of ``[service_user]``, each of which is to be taken out.
_NO_SERVICE_USER = _service_user(
    **dict.fromkeys(
        (
            *('send_service_user_token', 'auth_type', 'auth_url', 'username'),
            *('password', 'user_domain_name', 'project_name'),
            'project_domain_name',
        )
    )
)

COMPUTE_DRIVER = ('DEFAULT', 'compute_driver')

MISTAKES: Mapping[str, tuple[Mistake]] = {
    # The driver
    'driver_misspelt': failure(
        {COMPUTE_DRIVER: 'snapshot_driver.LibvirtSnapshotDrive'},
        'compute_driver',
        'Nova looks for nova.virt.snapshot_driver.LibvirtSnapshotDrive,',
        'compute_driver = snapshot_driver.LibvirtSnapshotDriver',
    ),
    'driver_with_its_whole_path': failure(
        {COMPUTE_DRIVER: 'nova.virt.snapshot_driver.LibvirtSnapshotDriver'},
        'compute_driver',
        'Nova looks for nova.virt.nova.virt.',
        'compute_driver = snapshot_driver.LibvirtSnapshotDriver',
    ),
    'driver_missing': warning(
        {COMPUTE_DRIVER: None},
        'compute_driver',
        'nova-compute does not start without it',
        'compute_driver = snapshot_driver.LibvirtSnapshotDriver',
        status=NOT_SWITCHED_ON,
    ),
    'driver_of_nova': warning(
        {COMPUTE_DRIVER: 'libvirt.LibvirtDriver'},
        'compute_driver',
        "Nova's own driver takes the snapshots",
        'compute_driver = snapshot_driver.LibvirtSnapshotDriver',
        status=NOT_SWITCHED_ON,
    ),
    'driver_of_another_hypervisor': warning(
        {COMPUTE_DRIVER: 'fake.FakeDriver'},
        'compute_driver',
        'is for another hypervisor',
        status=NOT_SWITCHED_ON,
    ),
    # The service user
    'no_service_user': warning(
        _NO_SERVICE_USER,
        'Service user',
        'is not configured',
        'send_service_user_token = true',
    ),
    'service_user_without_a_way_to_log_in': failure(
        _service_user(auth_type=None), 'Service user', 'has no auth_type'
    ),
    'way_to_log_in_misspelt': failure(
        _service_user(auth_type='pasword'), 'Service user', 'pasword'
    ),
    'wrong_password': failure(
        _service_user(password='guess'),
        'Service user',
        'HTTP 401',
        'hold the right address and credentials?',
    ),
    'unknown_user': failure(
        _service_user(username='nobody'), 'Service user', 'HTTP 401'
    ),
    'unknown_project': failure(
        _service_user(project_name='servce'), 'Service user', 'HTTP 401'
    ),
    'keystone_elsewhere': failure(
        _service_user(auth_url=f'{NOWHERE}/v3'),
        'Service user',
        NOWHERE,
        'hold the right address and credentials?',
    ),
    'keystone_without_its_version': failure(
        _service_user(auth_url=f'{NOWHERE}/v2'), 'Service user', NOWHERE
    ),
    'token_that_is_not_sent': warning(
        _service_user(send_service_user_token='false'),
        'Service token',
        'It is not sent',
        'send_service_user_token = true',
    ),
    # Glance
    'glance_elsewhere': failure(
        {('glance', 'endpoint_override'): NOWHERE}, 'Glance', NOWHERE
    ),
    'one_glance_of_two_elsewhere': failure(
        {('glance', 'api_servers'): f'{NOWHERE},http://127.0.0.1:10'},
        f'Glance {NOWHERE}',
        NOWHERE,
    ),
    'region_without_a_glance': failure(
        {('glance', 'region_name'): 'RegionTwo'},
        'Glance',
        'in RegionTwo region not found',
    ),
    # Cinder
    'cinder_elsewhere': failure(
        {('cinder', 'endpoint_template'): f'{NOWHERE}/v3/%(project_id)s'},
        'Cinder',
        NOWHERE,
        'Do [cinder] and [service_user] hold the right address',
    ),
    # libvirt
    'libvirt_elsewhere': failure(
        {
            (
                'libvirt',
                'connection_uri',
            ): 'qemu+unix:///system?socket=/run/nowhere'
        },
        'libvirt',
        '/run/nowhere',
        'Is the daemon running',
    ),
    'hypervisor_of_nova_alone': warning(
        {('libvirt', 'virt_type'): 'lxc'},
        '[libvirt] virt_type',
        "Nova's own driver takes the snapshots",
    ),
    'cold_snapshots': warning(
        {('workarounds', 'disable_libvirt_livesnapshot'): 'true'},
        '[workarounds] disable_libvirt_livesnapshot',
        'Take the option out',
    ),
    # The options of the driver
    'option_misspelt': warning(
        {('snapshot', 'qiesce'): 'require'},
        '[snapshot] qiesce',
        'its value is ignored',
        'Is quiesce meant?',
    ),
    'option_by_its_old_name': warning(
        {('snapshot', 'path'): 'auto'},
        '[snapshot] path',
        'It is called method now',
    ),
    # Directories
    'snapshots_directory_too_long': warning(
        {('libvirt', 'snapshots_directory'): f'/tmp/{"long" * 20}'},
        'Snapshots directory: length',
        'leave no room for the socket',
        'Set [libvirt] snapshots_directory to a shorter one',
    ),
    'snapshots_directory_too_long_for_the_only_method': failure(
        {
            ('libvirt', 'snapshots_directory'): f'/tmp/{"long" * 20}',
            ('snapshot', 'method'): 'backup',
        },
        'Snapshots directory: length',
        'leave no room for the socket',
    ),
    'snapshots_directory_below_a_file': failure(
        {('libvirt', 'snapshots_directory'): '/etc/hostname/snapshots'},
        'Snapshots directory',
        '/etc/hostname is no directory',
        '[libvirt] snapshots_directory',
    ),
    'scratch_directory_below_a_file': failure(
        {('snapshot', 'scratch_directory'): '/etc/hostname/scratch'},
        'Scratch directory',
        '/etc/hostname is no directory',
        '[snapshot] scratch_directory',
    ),
    'state_directory_below_a_file': failure(
        {('snapshot', 'state_directory'): '/etc/hostname/state'},
        'State directory',
        '/etc/hostname is no directory',
        '[snapshot] state_directory',
    ),
    'metrics_in_no_directory': failure(
        {('snapshot', 'metrics_file'): '/nowhere/nova_snapshot.prom'},
        'Metrics',
        'nova-compute does not make it',
        '[snapshot] metrics_file',
    ),
    # nova-api
    'line_in_another_section': failure(
        {
            (APP, FACTORY): None,
            ('app:oscomputeversions', FACTORY): DRIVER_API,
        },
        'api-paste.ini',
        'where it does nothing',
        f'Write in [{APP}]: {FACTORY} = {DRIVER_API}',
    ),
    'line_of_somebody_else': failure(
        {(APP, FACTORY): 'somebody.api:app_factory'},
        'api-paste.ini',
        'is neither of this driver nor of Nova',
        f'Write in [{APP}]: {FACTORY} = {DRIVER_API}',
    ),
    'no_line': failure(
        {(APP, FACTORY): None}, 'api-paste.ini', 'Take that of your Nova'
    ),
    'line_of_one_nova_api_of_two': warning(
        {(APP, FACTORY): STOCK_API},
        'nova-api',
        'has loaded the driver',
        'api-paste.ini on this host has not the line',
        'write it there too',
    ),
    'line_of_nova': warning(
        {(APP, FACTORY): STOCK_API},
        'api-paste.ini',
        'one after the other',
        f'Write in [{APP}]: {FACTORY} = {DRIVER_API}',
    ),
}

#: Values of which a check can't even be made.
INVALID: Mapping[str, tuple[Mistake]] = {
    name: (
        Mistake(options, 'configuration-invalid', 'ERROR', words, NOT_READY),
    )
    for name, options, words in (
        (
            'number',
            {('snapshot', 'bandwidth'): 'fast'},
            ('bandwidth', 'fast'),
        ),
        ('choice', {('snapshot', 'quiesce'): 'maybe'}, ('quiesce', 'maybe')),
        (
            'truth',
            _service_user(send_service_user_token='perhaps'),
            ('perhaps',),
        ),
    )
}
