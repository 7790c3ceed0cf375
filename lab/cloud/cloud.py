# SPDX-License-Identifier: Apache-2.0
"""A whole OpenStack on one machine."""

import contextlib
import os
import shutil
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import SDKException

from lab.bounded import locked
from lab.bounded import run
from lab.cloud.broker import Broker
from lab.cloud.ceph import Ceph
from lab.cloud.client import connect
from lab.cloud.client import write_client_files
from lab.cloud.configuration import HOST
from lab.cloud.configuration import Configuration
from lab.cloud.configuration import Overrides
from lab.cloud.content import ensure_content
from lab.cloud.content import ensure_content_of_ceph
from lab.cloud.databases import copy_databases
from lab.cloud.gate import Gate
from lab.cloud.identity import bootstrap
from lab.cloud.identity import ensure_cinder
from lab.cloud.identity import make_identities
from lab.cloud.identity import remove_cinder
from lab.cloud.install import CloudInstall
from lab.cloud.libvirtd import Libvirtd
from lab.cloud.log import ServiceLog
from lab.cloud.options import CloudOptions
from lab.cloud.service import Service
from lab.cloud.services import Services
from lab.cloud.settings import Settings
from lab.cloud.state import State
from lab.cloud.stock import make_stock
from lab.cloud.stock import stock_install
from lab.cloud.storage import BACKENDS
from lab.cloud.storage import SECRETS
from lab.directory import lab_directory
from lab.errors import LabError

_LOCK_TIMEOUT = 600
_DISCOVER_TIMEOUT = 120

# The parts that start side by side, and may wait for each other.
_AT_ONCE = 12


class Cloud:
    """A cloud with everything it writes in *directory*.

    It runs until it is stopped, whatever becomes of the process that has
    started it. Another object of the same directory is the same cloud.

    :param directory: by default the one of ``make cloud``
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or lab_directory() / 'cloud'
        self._admin: Connection | None = None

    # Life cycle

    def ensure(
        self,
        options: CloudOptions | None = None,
        overrides: Overrides | None = None,
    ) -> None:
        """Let it run with these options, and with this checkout as it is.

        What runs already is restarted only if it has to be: nova-compute
        for another driver, say. Servers, images and everything else in it
        stay, but not with another version of Nova.

        :param options: None: the default ones
        :param overrides: as those of :meth:`configure_compute`, which are
            forgotten; None: none
        :raises LabError: a service does not come up; the message has the end
            of its log
        """
        options = options or CloudOptions()
        _require_root()
        with self._locked():
            install = CloudInstall.ensure(
                options.nova, cinder=options.has_ceph
            )
            state = State(options, install.checkout)
            before = self._state
            if before is None or before.options.nova != options.nova:
                # Discard a cloud that is incomplete, or whose databases are
                # for another Nova.
                self._discard()
                self._make(install, state, overrides or {})
            else:
                self._renew(install, before, state, overrides or {})

    def stop(self) -> None:
        """Stop it, and destroy its guests; what is stored in it stays.

        :raises LabError: this process is not that of root
        """
        if self.directory.exists():
            _require_root()
            with self._locked():
                self._stop()

    def discard(self) -> None:
        """Stop it and remove all it has written.

        :raises LabError: this process is not that of root
        """
        if self.directory.exists():
            _require_root()
            with self._locked():
                self._discard()

    @property
    def options(self) -> CloudOptions:
        """The options it was started with last.

        :raises LabError: it was never started
        """
        state = self._state
        if state is None:
            raise LabError('there is no cloud: make cloud')
        return state.options

    @property
    def status(self) -> dict[str, bool]:
        """Whether each service runs, by its name; empty: never started."""
        if not self._settings_file.exists():
            return {}
        return {
            name: service.running for name, service in self.services.items()
        }

    @property
    def running(self) -> bool:
        """Whether all of it runs."""
        status = self.status
        return bool(status) and all(status.values())

    # Services

    @property
    def services(self) -> dict[str, Service]:
        """All services by their names, which are those of their logs."""
        libvirtd = self.libvirtd
        broker = self._broker
        return {
            service.name: service
            for service in (
                libvirtd.virtlogd,
                libvirtd.libvirtd,
                broker.epmd,
                broker.rabbitmq,
                *(self.ceph.all if self._has_ceph else ()),
                *self._services.all,
            )
        }

    @property
    def compute(self) -> Service:
        """nova-compute."""
        return self.services['nova-compute']

    @property
    def gate(self) -> Gate:
        """The gate of nova-compute, if it is among the options."""
        return Gate(self._configuration.gate)

    @property
    def libvirtd(self) -> Libvirtd:
        """The libvirt of the cloud, with its guests."""
        return Libvirtd(self.directory)

    @property
    def ceph(self) -> Ceph:
        """Ceph, and its commands; it runs with ``Storage.CEPH`` alone."""
        return Ceph(self.directory, self._settings)

    def configure_compute(self, overrides: Overrides) -> None:
        """Restart nova-compute with options of its own.

        :param overrides: values by group and name; ``{}`` for none, as at
            the start
        """
        self._configuration.write_overrides(overrides)
        self.compute.restart()

    def log(self, service: str) -> ServiceLog:
        """The log of a service from now on."""
        return ServiceLog(self.log_directory / f'{service}.log')

    @property
    def log_directory(self) -> Path:
        return self.directory / 'log'

    # Addresses

    def connection(self, name: str = 'demo') -> Connection:
        """A new connection of the SDK.

        :param name: ``demo`` or ``other``, which are ordinary projects, or
            ``admin``
        """
        return connect(self._settings, name)

    @property
    def keystone_url(self) -> str:
        return self._settings.url('keystone', '/v3')

    @property
    def nova_url(self) -> str:
        return self._settings.url('nova-api')

    @property
    def glance_url(self) -> str:
        return self._settings.url('glance')

    @property
    def cinder_url(self) -> str:
        """The URL of Cinder for a proxy in front of it.

        nova-compute uses the proxy with an override of ``('cinder',
        'endpoint_template')``, which is the URL of the proxy and
        ``/v3/%(project_id)s``.
        """
        return self._settings.url('cinder-api')

    @property
    def rabbit_url(self) -> str:
        """The transport URL, with the password."""
        return self._configuration.transport_url

    @property
    def libvirt_uri(self) -> str:
        return self.libvirtd.uri

    @property
    def instances_path(self) -> Path:
        return self._configuration.var / 'nova/instances'

    @property
    def glance_store(self) -> Path:
        """The directory with a file for each image."""
        return self._configuration.var / 'glance/images'

    def database(self, service: str) -> Path:
        """The SQLite file of a service."""
        return self._configuration.databases / f'{service}.sqlite'

    @property
    def install(self) -> CloudInstall:
        """Where the programs of Nova are."""
        return self._nova_of(self.options)

    # Parts

    @property
    def _settings(self) -> Settings:
        return Settings.read(self._settings_file)

    @property
    def _settings_file(self) -> Path:
        return self.directory / 'settings.json'

    @property
    def _state(self) -> State | None:
        return State.read(self._state_file)

    @property
    def _state_file(self) -> Path:
        return self.directory / 'state.json'

    @property
    def _broker(self) -> Broker:
        return Broker(self.directory, self._settings)

    @property
    def _configuration(self) -> Configuration:
        return Configuration(self.directory, self._settings, self.libvirtd.uri)

    @property
    def _services(self) -> Services:
        return self._services_of(self._options_before)

    @property
    def _options_before(self) -> CloudOptions:
        """The options of what runs; the default ones of a new cloud."""
        state = self._state
        return state.options if state else CloudOptions()

    @property
    def _has_ceph(self) -> bool:
        return self._options_before.has_ceph

    def _services_of(self, options: CloudOptions) -> Services:
        return Services(
            self._configuration,
            CloudInstall.find(options.nova),
            self._nova_of(options),
            options,
            self._compute_is_up,
            self._volume_is_up,
        )

    def _nova_of(self, options: CloudOptions) -> CloudInstall:
        """The environment of Nova: its own, or that of all services."""
        install = CloudInstall.find(options.nova)
        if options.stock:
            return stock_install(install, self.directory / 'nova')
        return install

    # Start and stop

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self.directory.with_suffix('.lock'), _LOCK_TIMEOUT):
            yield

    def _make(
        self, install: CloudInstall, state: State, overrides: Overrides
    ) -> None:
        """Start a new one."""
        Settings.write(self._settings_file)
        configuration = self._configure(install, state.options)
        configuration.write_overrides(overrides)
        copy_databases(install.databases, configuration.databases)

        def start_keystone(services: Services) -> None:
            bootstrap(install.programs, configuration.keystone, self._settings)
            services.keystone.start()
            make_identities(self.connection('admin'), self._settings)

        self._start(state.options, start_keystone)
        self._discover_host(install)
        # Record the state last: without it the next attempt starts anew.
        state.write(self._state_file)

    def _renew(
        self,
        install: CloudInstall,
        before: State,
        state: State,
        overrides: Overrides,
    ) -> None:
        """Start what does not run, or runs with something else."""
        # Add the settings that are newer than the cloud.
        Settings.write(self._settings_file)
        services = self._services
        stale = before.stale(state)
        configuration = self._configure(install, state.options)
        if configuration.write_overrides(overrides):
            stale.add('nova-compute')
        if 'nova-compute' in stale:
            # Kill it: a graceful end takes longer than a start.
            services.nova_compute.kill()
        _stop_all(
            *(service for service in services.all if service.name in stale)
        )
        without_ceph = before.options.has_ceph and not state.options.has_ceph
        if without_ceph:
            self.ceph.stop()
        copy_databases(install.databases, configuration.databases)
        state.write(self._state_file)

        def start_keystone(services: Services) -> None:
            services.keystone.start()
            if without_ceph:
                remove_cinder(self.connection('admin'), self._settings)

        self._start(state.options, start_keystone)

    def _configure(
        self, install: CloudInstall, options: CloudOptions
    ) -> Configuration:
        nova = self._nova_of(options)
        if options.stock:
            make_stock(install, nova.directory)
        configuration = self._configuration
        configuration.write(nova, options)
        write_client_files(self.directory, nova.programs, self._settings)
        return configuration

    def _start(
        self,
        options: CloudOptions,
        start_keystone: Callable[[Services], None],
    ) -> None:
        services = self._services_of(options)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            broker = pool.submit(self._broker.start)
            ceph = pool.submit(self._start_ceph, options)
            beside = [
                pool.submit(start)
                for start in (
                    self.libvirtd.start,
                    services.placement.start,
                    services.neutron.start,
                    services.nova_api.start,
                    lambda: _after([ceph], services.glance.start),
                )
            ]
            start_keystone(services)
            cinder = pool.submit(
                self._start_cinder, options, services, [broker, ceph]
            )
            broker.result()
            beside += [
                pool.submit(services.nova_scheduler.start),
                pool.submit(services.nova_conductor.start),
            ]
            for future in beside:
                future.result()
            self._keep_keys(options)
            content = pool.submit(self._ensure_content, options, cinder)
            services.nova_compute.start()
            content.result()

    def _start_ceph(self, options: CloudOptions) -> None:
        if options.has_ceph:
            self.ceph.start()

    def _start_cinder(
        self,
        options: CloudOptions,
        services: Services,
        before: Iterable[Future[None]],
    ) -> None:
        """Start Cinder where there is Ceph, with what it has to have.

        :param before: what it needs, Keystone apart
        """
        if not options.has_ceph:
            return
        ensure_cinder(self.connection('admin'), self._settings)
        # Connect anew: the catalog may have had no Cinder.
        self._admin = None
        with ThreadPoolExecutor() as pool:
            for future in [
                pool.submit(services.cinder_api.start),
                pool.submit(_after, before, services.cinder_scheduler.start),
                pool.submit(_after, before, services.cinder_volume.start),
            ]:
                future.result()

    def _ensure_content(
        self, options: CloudOptions, cinder: Future[None]
    ) -> None:
        admin = self.connection('admin')
        ensure_content(admin)
        cinder.result()
        if options.has_ceph:
            ensure_content_of_ceph(admin)

    def _keep_keys(self, options: CloudOptions) -> None:
        """Give libvirt the keys with which guests reach their disks."""
        if options.has_ceph:
            for user, uuid in SECRETS.items():
                self.libvirtd.keep_key(user, uuid, self.ceph.key(user))

    def _discover_host(self, install: CloudInstall) -> None:
        """Tell Nova's API in which cell nova-compute is."""
        run(
            [
                install.programs / 'nova-manage',
                *self._configuration.arguments('databases.conf'),
                *('cell_v2', 'discover_hosts'),
            ],
            timeout=_DISCOVER_TIMEOUT,
        )

    def _compute_is_up(self, log: ServiceLog) -> bool:
        """Whether the scheduler would choose nova-compute."""
        try:
            return any(
                service.state == 'up'
                for service in self._administrator.compute.services(
                    binary='nova-compute', host=HOST
                )
            )
        except (ClientException, SDKException):
            return False

    def _volume_is_up(self, log: ServiceLog) -> bool:
        """Whether Cinder's scheduler would choose cinder-volume."""
        ready = log.grep('Driver initialization completed successfully')
        if len(ready) < len(BACKENDS):
            return False
        try:
            # A type of the SDK that may be a proxy of version 2, which Cinder
            # lacks.
            cinder: Any = self._administrator.block_storage
            return len(list(cinder.backend_pools())) == len(BACKENDS)
        except (ClientException, SDKException):
            return False

    @property
    def _administrator(self) -> Connection:
        """A connection of the administrator, which is reused."""
        if self._admin is None:
            self._admin = self.connection('admin')
        return self._admin

    def _stop(self) -> None:
        if not self._settings_file.exists():
            return
        # The settings are renewed here, too.
        Settings.write(self._settings_file)
        services = self._services
        # The guests and the conductor are of use to nova-compute, and the
        # broker to the conductor.
        _stop_all(
            services.nova_compute,
            services.nova_api,
            services.glance,
            services.keystone,
            services.neutron,
            services.placement,
            *services.cinder,
        )
        _stop_all(
            services.nova_conductor, services.nova_scheduler, self.libvirtd
        )
        # Ceph stops last: the guests that write to it are gone.
        _stop_all(self._broker, self.ceph)

    def _discard(self) -> None:
        self._stop()
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self._admin = None


def _after(before: Iterable[Future[None]], start: Callable[[], None]) -> None:
    """Start something when other things are done."""
    for future in before:
        future.result()
    start()


def _stop_all(*parts: Service | Libvirtd | Broker | Ceph) -> None:
    """Stop some parts, side by side."""
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(part.stop) for part in parts]:
            future.result()


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError(
            'the cloud has a libvirtd of its own, for which it needs root: '
            'sudo make cloud'
        )
