# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ beside that of the machine."""

from pathlib import Path

from lab.cloud.files import write_private
from lab.cloud.service import Service
from lab.cloud.service import listens
from lab.cloud.settings import ADDRESS
from lab.cloud.settings import Settings

_SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server'

_CONFIGURATION = """\
listeners.tcp.1 = {address}:{port}
default_user = nova
default_pass = {password}
log.console = true
log.console.level = warning
log.file = false
"""


class Broker:
    """RabbitMQ and Erlang's port mapper, with files in ``DIRECTORY/rabbitmq``.

    :param directory: of the cloud
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._root = directory / 'rabbitmq'
        self._settings = settings
        ports = settings.ports
        # RabbitMQ would start a port mapper itself, and leave it behind.
        self.epmd = Service(
            'epmd',
            directory,
            ['epmd', '-address', ADDRESS, '-port', str(ports['epmd'])],
            {},
            listens(ports['epmd']),
        )
        self.rabbitmq = Service(
            'rabbitmq',
            directory,
            [_SERVER],
            {
                # where the cookie is
                'HOME': str(self._root),
                'ERL_EPMD_ADDRESS': ADDRESS,
                'ERL_EPMD_PORT': str(ports['epmd']),
                'RABBITMQ_CONFIG_FILE': str(self._root / 'rabbitmq.conf'),
                'RABBITMQ_CONF_ENV_FILE': '/dev/null',
                'RABBITMQ_DIST_PORT': str(ports['rabbitmq-peers']),
                'RABBITMQ_ENABLED_PLUGINS_FILE': str(self._root / 'plugins'),
                'RABBITMQ_LOG_BASE': str(self._root / 'log'),
                'RABBITMQ_MNESIA_BASE': str(self._root / 'mnesia'),
                'RABBITMQ_NODENAME': f'lab{ports["rabbitmq"]}@localhost',
                'RABBITMQ_PID_FILE': str(self._root / 'pid'),
                # An idle scheduler of Erlang's spins before it sleeps.
                'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': (
                    '+S 1:1 +sbwt none '
                    '-kernel inet_dist_use_interface {127,0,0,1}'
                ),
            },
            listens(ports['rabbitmq']),
        )

    def start(self) -> None:
        """Start both unless they run.

        :raises LabError: one does not come up
        """
        write_private(
            self._root / 'rabbitmq.conf',
            _CONFIGURATION.format(
                address=ADDRESS,
                port=self._settings.ports['rabbitmq'],
                password=self._settings.passwords['rabbitmq'],
            ),
        )
        (self._root / 'plugins').write_text('[].')
        self.epmd.start()
        self.rabbitmq.start()

    def stop(self) -> None:
        self.rabbitmq.stop()
        self.epmd.stop()
