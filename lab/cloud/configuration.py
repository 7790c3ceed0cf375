# SPDX-License-Identifier: Apache-2.0
"""The configuration files of the services of OpenStack."""

import base64
import dataclasses
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab.accelerator import domain_type
from lab.cloud import storage
from lab.cloud.bindings import link_bindings
from lab.cloud.ceph import Ceph
from lab.cloud.databases import connection
from lab.cloud.files import write_private
from lab.cloud.install import CloudInstall
from lab.cloud.options import STOCK_API
from lab.cloud.options import CloudOptions
from lab.cloud.settings import ADDRESS
from lab.cloud.settings import Settings
from lab.errors import LabError

REGION = 'RegionOne'
#: nova-compute's host
HOST = 'lab'

#: Values of options by their group and name.
Overrides = Mapping[tuple[str, str], object]

_KEYSTONE = """\
[database]
connection = {keystone_database}
sqlite_synchronous = false
[token]
provider = fernet
expiration = {token_lifetime}
[fernet_tokens]
key_repository = {etc}/keystone/fernet
[fernet_receipts]
key_repository = {etc}/keystone/fernet
[credential]
key_repository = {etc}/keystone/credential
[identity]
# The passwords are random, and the bootstrap is quick with it.
password_hash_rounds = 4
[cache]
# Without it each check of a token takes a second.
enabled = true
backend = dogpile.cache.memory
"""

_GLANCE = """\
[DEFAULT]
debug = true
enabled_backends = file:file
enabled_import_methods = [glance-direct]
node_staging_uri = file://{var}/glance/staging
transport_url = fake://
[database]
connection = {glance_database}
sqlite_synchronous = false
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = {var}/glance/images
[os_glance_staging_store]
filesystem_store_datadir = {var}/glance/staging
[os_glance_tasks_store]
filesystem_store_datadir = {var}/glance/tasks
[oslo_concurrency]
lock_path = {var}/lock
[paste_deploy]
flavor = keystone
config_file = {etc}/glance/glance-api-paste.ini
[keystone_authtoken]
service_token_roles_required = true
{glance_account}"""

_PLACEMENT = """\
[api]
auth_strategy = keystone
[placement_database]
connection = {placement_database}
sqlite_synchronous = false
[keystone_authtoken]
service_token_roles_required = true
{placement_account}"""

_NOVA = """\
[DEFAULT]
debug = true
host = {host}
my_ip = {address}
state_path = {var}/nova
instances_path = {var}/nova/instances
transport_url = {transport_url}
concurrency_backend = threading
report_interval = 10
service_down_time = 60
# It is nobody's loss if a task is cut off.
graceful_shutdown_timeout = 10
manager_shutdown_timeout = 1
reserved_host_memory_mb = 0
initial_cpu_allocation_ratio = 64.0
initial_disk_allocation_ratio = 16.0
heal_instance_info_cache_interval = -1
[api]
auth_strategy = keystone
[conductor]
workers = 1
[filter_scheduler]
enabled_filters = ComputeFilter,ImagePropertiesFilter
[glance]
region_name = {region}
[keystone_authtoken]
service_token_roles_required = true
{nova_account}[libvirt]
connection_uri = {libvirt_uri}
virt_type = {domain_type}
cpu_mode = none
images_type = {images_type}
[neutron]
{nova_account}[nova_sys_admin]
helper_command = {privsep_helper}
[notifications]
notification_format = both
notify_on_state_change = vm_and_task_state
[oslo_concurrency]
lock_path = {var}/lock
[oslo_messaging_notifications]
driver = messagingv2
[placement]
{nova_account}[privsep_osbrick]
helper_command = {privsep_helper}
[quota]
cores = -1
instances = -1
ram = -1
[scheduler]
workers = 1
[serial_console]
enabled = false
[vnc]
enabled = false
[wsgi]
api_paste_config = {etc}/nova/api-paste.ini
"""

# The service token, which an operator of a stock Nova may not have thought of.
_SERVICE_USER = """\
[service_user]
send_service_user_token = true
{nova_account}"""

# The databases, which nova-compute must not know.
_NOVA_DATABASES = """\
[api_database]
connection = {nova_api_database}
sqlite_synchronous = false
[database]
connection = {nova_database}
sqlite_synchronous = false
"""

# The options of nova-compute, in a file of its own as with Debian's packages.
# A stock Nova has one file for all.
_NOVA_COMPUTE = """\
[DEFAULT]
compute_driver = {driver}
concurrency_backend = {concurrency}
"""

#: The application of each service that gunicorn runs.
APPLICATIONS = {
    'cinder-api': 'cinder.wsgi.api:application',
    'glance': 'glance.wsgi.api:application',
    'keystone': 'keystone.wsgi.api:application',
    'neutron': 'lab.cloud.neutron:application',
    'nova-api': 'nova.wsgi.osapi_compute:application',
    'placement': 'placement.wsgi.api:application',
}

#: The requests that a service handles at once. Placement reads before it
#: writes, in one transaction: with SQLite two of those wait for each other.
THREADS = dict.fromkeys(APPLICATIONS, 8) | {'placement': 1}

# The services parse sys.argv, so gunicorn gets its options from a file.
_GUNICORN = """\
wsgi_app = '{application}'
bind = '{address}:{port}'
worker_class = 'gthread'
threads = {threads}
# A worker with a long upload is not a dead one.
timeout = 600
graceful_timeout = 5
# Longer than the pauses of a client that polls.
keepalive = 75
control_socket_disable = True
"""

_ACCOUNT = """\
auth_type = password
auth_url = {url}
www_authenticate_uri = {url}
username = {user}
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
region_name = {region}
"""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The configuration files of a cloud.

    :param directory: of the cloud
    """

    directory: Path
    settings: Settings
    libvirt_uri: str

    @property
    def etc(self) -> Path:
        return self.directory / 'etc'

    @property
    def var(self) -> Path:
        return self.directory / 'var'

    @property
    def databases(self) -> Path:
        return self.var / 'databases'

    @property
    def bindings(self) -> Path:
        """The directory of Ceph's bindings for Python."""
        return self.var / 'bindings'

    @property
    def gate(self) -> Path:
        """The directory by which a nova-compute is held."""
        return self.var / 'gate'

    @property
    def keystone(self) -> Path:
        return self.etc / 'keystone/keystone.conf'

    def arguments(self, *files: str) -> list[str]:
        """The arguments of a program of Nova.

        :param files: what it reads after ``nova.conf``
        """
        return [
            f'--config-file={self.etc}/nova/{file}'
            for file in ('nova.conf', *files)
        ]

    @property
    def cinder_arguments(self) -> list[str]:
        """The arguments of a program of Cinder."""
        return [f'--config-file={self.etc}/cinder/cinder.conf']

    def gunicorn(self, service: str) -> Path:
        """The file that gunicorn reads for a service."""
        return self.etc / 'gunicorn' / f'{service}.py'

    @property
    def transport_url(self) -> str:
        """The URL of RabbitMQ, with the password."""
        password = self.settings.passwords['rabbitmq']
        port = self.settings.ports['rabbitmq']
        return f'rabbit://nova:{password}@{ADDRESS}:{port}/'

    def write(self, nova: CloudInstall, options: CloudOptions) -> None:
        """Write all files but that of the overrides; keys stay as they are.

        :param nova: the environment of Nova
        """
        databases = {
            f'{name}_database': connection(self.databases, name)
            for name in (
                *('cinder', 'glance', 'keystone', 'nova', 'nova_api'),
                'placement',
            )
        }
        accounts = {
            f'{user}_account': self._account(user)
            for user in ('cinder', 'glance', 'nova', 'placement')
        }
        secrets_of_libvirt = {
            f'{user}_secret': uuid for user, uuid in storage.SECRETS.items()
        }
        privsep_helper = nova.programs / 'privsep-helper'
        values = {
            **databases,
            **accounts,
            **secrets_of_libvirt,
            'address': ADDRESS,
            'ceph_conf': Ceph(self.directory, self.settings).configuration,
            'cinder_privsep_helper': ' '.join(
                [str(privsep_helper), *self.cinder_arguments]
            ),
            'cinder_endpoint': (
                f'endpoint_template = {options.cinder_endpoint}'
                if options.cinder_endpoint
                else ''
            ),
            'concurrency': options.concurrency,
            'domain_type': domain_type(),
            'driver': options.driver,
            'etc': self.etc,
            'glance_url': self.settings.url('glance'),
            'host': HOST,
            'images_type': options.images_type,
            'libvirt_uri': self.libvirt_uri,
            'privsep_helper': ' '.join(
                [str(privsep_helper), *self.arguments()]
            ),
            'region': REGION,
            'token_lifetime': options.token_lifetime,
            'transport_url': self.transport_url,
            'var': self.var,
            'volume_key': self.settings.passwords['volume-encryption'],
        }
        has_ceph = options.has_ceph
        for file, text in (
            ('keystone/keystone.conf', _KEYSTONE),
            ('cinder/cinder.conf', storage.CINDER),
            (
                'glance/glance-api.conf',
                _GLANCE + (storage.GLANCE if has_ceph else ''),
            ),
            ('placement/placement.conf', _PLACEMENT),
            (
                'nova/nova.conf',
                _NOVA
                + (_NOVA_COMPUTE if options.stock else _SERVICE_USER)
                + (storage.NOVA if has_ceph else ''),
            ),
            *(
                ()
                if options.stock
                else [('nova/nova-compute.conf', _NOVA_COMPUTE)]
            ),
            ('nova/databases.conf', _NOVA_DATABASES),
        ):
            write_private(self.etc / file, text.format(**values))
        if options.stock:
            (self.etc / 'nova/nova-compute.conf').unlink(missing_ok=True)
        for service, application in APPLICATIONS.items():
            write_private(
                self.gunicorn(service),
                _GUNICORN.format(
                    address=ADDRESS,
                    application=application,
                    port=self.settings.ports[service],
                    threads=THREADS[service],
                ),
            )
        cinder_files = ('cinder/api-paste.ini', 'cinder/resource_filters.json')
        for file in (
            'glance/glance-api-paste.ini',
            *(cinder_files if has_ceph else ()),
        ):
            shutil.copy(nova.etc / file, self.etc / file)
        paste = (nova.etc / 'nova/api-paste.ini').read_text()
        (self.etc / 'nova/api-paste.ini').write_text(
            _with_app_factory(paste, options.app_factory)
        )
        for directory in (
            'cinder/conversion',
            'glance/images',
            'glance/staging',
            'glance/tasks',
            'lock',
            'nova/instances',
        ):
            (self.var / directory).mkdir(parents=True, exist_ok=True)
        if has_ceph:
            link_bindings(self.bindings)
        _write_keys(self.etc / 'keystone/fernet')
        _write_keys(self.etc / 'keystone/credential')

    def write_overrides(self, overrides: Overrides) -> bool:
        """Write the file that nova-compute alone reads, as its last one.

        :return: whether it is another than before
        """
        path = self.etc / 'nova/overrides.conf'
        text = ''.join(
            f'[{group}]\n{name} = {value}\n'
            for (group, name), value in overrides.items()
        )
        if path.exists() and path.read_text() == text:
            return False
        write_private(path, text)
        return True

    def _account(self, user: str) -> str:
        return _ACCOUNT.format(
            url=self.settings.url('keystone', '/v3'),
            user=user,
            password=self.settings.passwords[user],
            region=REGION,
        )


def _with_app_factory(paste: str, app_factory: str) -> str:
    """Nova's ``api-paste.ini`` with another application.

    :raises LabError: Nova's own is not in it
    """
    line = 'paste.app_factory = '
    if line + STOCK_API not in paste:
        raise LabError(f"Nova's api-paste.ini has no {STOCK_API}")
    return paste.replace(line + STOCK_API, line + app_factory)


def _write_keys(directory: Path) -> None:
    """Write what ``keystone-manage fernet_setup`` would, without its 2 s."""
    for name in ('0', '1'):
        if not (directory / name).exists():
            key = base64.urlsafe_b64encode(secrets.token_bytes(32))
            write_private(directory / name, key.decode())
