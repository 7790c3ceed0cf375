# SPDX-License-Identifier: Apache-2.0
"""How each service of OpenStack is started."""

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cloud.configuration import Configuration
from tests.lab.cloud.install import CloudInstall
from tests.lab.cloud.options import CloudOptions
from tests.lab.cloud.service import Ready
from tests.lab.cloud.service import Service
from tests.lab.cloud.service import answers
from tests.lab.cloud.service import has_logged

_ROOT = Path(__file__).resolve().parents[3]


class Services:
    """The services of OpenStack.

    :param compute_is_up: whether Nova's API knows that nova-compute runs
    """

    def __init__(
        self,
        configuration: Configuration,
        install: CloudInstall,
        options: CloudOptions,
        compute_is_up: Ready,
    ) -> None:
        self._configuration = configuration
        self._install = install
        etc = configuration.etc
        url = configuration.settings.url
        self.keystone = self._web_service(
            'keystone',
            {'OS_KEYSTONE_CONFIG_DIR': str(etc / 'keystone')},
            answers(url('keystone', '/v3')),
        )
        self.glance = self._web_service(
            'glance',
            {'OS_GLANCE_CONFIG_DIR': str(etc / 'glance')},
            answers(url('glance', '/healthcheck')),
        )
        self.placement = self._web_service(
            'placement',
            {'OS_PLACEMENT_CONFIG_DIR': str(etc / 'placement')},
            answers(url('placement')),
        )
        self.neutron = self._web_service(
            'neutron',
            {'PYTHONPATH': str(_ROOT)},
            answers(url('neutron')),
        )
        self.nova_api = self._web_service(
            'nova-api',
            {
                'OS_NOVA_CONFIG_DIR': str(etc / 'nova'),
                # The first one is taken for the configuration of Paste.
                'OS_NOVA_CONFIG_FILES': ';'.join(
                    ['api-paste.ini', 'nova.conf', 'databases.conf']
                ),
            },
            answers(url('nova-api')),
        )
        self.nova_conductor = self._nova_service(
            'conductor', ['databases.conf']
        )
        self.nova_scheduler = self._nova_service(
            'scheduler', ['databases.conf']
        )
        has_joined = _has_joined('compute')
        self.nova_compute = self._nova_service(
            'compute',
            ['nova-compute.conf', 'overrides.conf'],
            options.environment,
            lambda log: has_joined(log) and compute_is_up(log),
        )

    @property
    def all(self) -> list[Service]:
        return [
            self.keystone,
            self.glance,
            self.placement,
            self.neutron,
            self.nova_api,
            self.nova_conductor,
            self.nova_scheduler,
            self.nova_compute,
        ]

    def _web_service(
        self, name: str, environment: Mapping[str, str], ready: Ready
    ) -> Service:
        file = self._configuration.gunicorn(name)
        return Service(
            name,
            self._configuration.directory,
            [self._install.programs / 'gunicorn'],
            {'GUNICORN_CMD_ARGS': f'--config {file}', **environment},
            ready,
        )

    def _nova_service(
        self,
        name: str,
        more_files: Sequence[str],
        environment: Mapping[str, str] | None = None,
        ready: Ready | None = None,
    ) -> Service:
        return Service(
            f'nova-{name}',
            self._configuration.directory,
            [
                self._install.programs / f'nova-{name}',
                *self._configuration.arguments(*more_files),
            ],
            environment or {},
            ready or _has_joined(name),
        )


def _has_joined(name: str) -> Ready:
    return has_logged(f'Join ServiceGroup membership for this service {name}')
