# SPDX-License-Identifier: Apache-2.0
"""How each service of OpenStack is started."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from lab.cloud import gate
from lab.cloud.configuration import Configuration
from lab.cloud.install import CloudInstall
from lab.cloud.options import CloudOptions
from lab.cloud.service import Ready
from lab.cloud.service import Service
from lab.cloud.service import answers
from lab.cloud.service import has_logged

_ROOT = Path(__file__).resolve().parents[2]


class Services:
    """The services of OpenStack.

    :param install: of all but Nova
    :param nova: of Nova, which may have an environment of its own
    :param compute_is_up: whether Nova's API knows that nova-compute runs
    :param volume_is_up: whether Cinder's knows what cinder-volume has
    """

    def __init__(
        self,
        configuration: Configuration,
        install: CloudInstall,
        nova: CloudInstall,
        options: CloudOptions,
        compute_is_up: Ready,
        volume_is_up: Ready,
    ) -> None:
        self._configuration = configuration
        self._install = install
        self._nova = nova
        self._options = options
        etc = configuration.etc
        url = configuration.settings.url
        bindings = (
            _python_path(configuration.bindings) if options.has_ceph else {}
        )
        self.keystone = self._web_service(
            'keystone',
            {'OS_KEYSTONE_CONFIG_DIR': str(etc / 'keystone')},
            answers(url('keystone', '/v3')),
        )
        self.glance = self._web_service(
            'glance',
            {'OS_GLANCE_CONFIG_DIR': str(etc / 'glance'), **bindings},
            answers(url('glance', '/healthcheck')),
        )
        self.placement = self._web_service(
            'placement',
            {'OS_PLACEMENT_CONFIG_DIR': str(etc / 'placement')},
            answers(url('placement')),
        )
        self.neutron = self._web_service(
            'neutron',
            _python_path(_ROOT),
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
            nova,
        )
        self.nova_conductor = self._nova_service(
            'conductor', ['databases.conf']
        )
        self.nova_scheduler = self._nova_service(
            'scheduler', ['databases.conf']
        )
        has_joined = _has_joined('compute')
        self.nova_compute = Service(
            'nova-compute',
            configuration.directory,
            [
                *self._compute_program(),
                *configuration.arguments(
                    *(() if options.stock else ['nova-compute.conf']),
                    'overrides.conf',
                ),
            ],
            {
                **options.environment,
                **_python_path(
                    *([configuration.bindings] if options.has_ceph else ()),
                    *([_ROOT] if options.gated else ()),
                ),
                gate.VARIABLE: str(configuration.gate),
            },
            lambda log: has_joined(log) and compute_is_up(log),
        )
        self.cinder_api = self._web_service(
            'cinder-api',
            # where it looks for cinder.conf
            {'HOME': str(etc / 'cinder')},
            answers(url('cinder-api', '/healthcheck')),
        )
        self.cinder_scheduler = self._cinder_service(
            'scheduler', {}, has_logged('Creating RPC server for service')
        )
        self.cinder_volume = self._cinder_service(
            'volume', bindings, volume_is_up
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
            *(self.cinder if self._options.has_ceph else ()),
        ]

    @property
    def cinder(self) -> list[Service]:
        """The services of Cinder, which not every cloud has."""
        return [self.cinder_api, self.cinder_scheduler, self.cinder_volume]

    def _compute_program(self) -> list[str | Path]:
        programs = self._nova.programs
        if self._options.gated:
            return [programs / 'python', '-m', gate.NOVA_COMPUTE]
        return [programs / 'nova-compute']

    def _web_service(
        self,
        name: str,
        environment: Mapping[str, str],
        ready: Ready,
        install: CloudInstall | None = None,
    ) -> Service:
        file = self._configuration.gunicorn(name)
        return Service(
            name,
            self._configuration.directory,
            [(install or self._install).programs / 'gunicorn'],
            {'GUNICORN_CMD_ARGS': f'--config {file}', **environment},
            ready,
        )

    def _nova_service(self, name: str, more_files: Sequence[str]) -> Service:
        return Service(
            f'nova-{name}',
            self._configuration.directory,
            [
                self._nova.programs / f'nova-{name}',
                *self._configuration.arguments(*more_files),
            ],
            {},
            _has_joined(name),
        )

    def _cinder_service(
        self, name: str, environment: Mapping[str, str], ready: Ready
    ) -> Service:
        return Service(
            f'cinder-{name}',
            self._configuration.directory,
            [
                self._install.programs / f'cinder-{name}',
                *self._configuration.cinder_arguments,
            ],
            environment,
            ready,
        )


def _python_path(*directories: Path) -> dict[str, str]:
    return {'PYTHONPATH': os.pathsep.join(map(str, directories))}


def _has_joined(name: str) -> Ready:
    return has_logged(f'Join ServiceGroup membership for this service {name}')
