# SPDX-License-Identifier: Apache-2.0
"""A Glance without Keystone, with SQLite and a directory as its store."""

import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.bounded import wait_until
from lab.daemon import Daemon
from lab.errors import LabError
from lab.errors import LabTimeout
from lab.glance_install import GlanceInstall

_ADDRESS = '127.0.0.1'
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0

_GLANCE_CONFIGURATION = """\
[DEFAULT]
enabled_backends = file:file
enabled_import_methods = []
node_staging_uri = file://{directory}/staging
transport_url = fake://
[database]
connection = sqlite:///{directory}/glance.sqlite?timeout=60
# A kill loses nothing by it, only a crash of the host does.
sqlite_synchronous = false
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = {directory}/images
[os_glance_staging_store]
filesystem_store_datadir = {directory}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {directory}/tasks
[oslo_concurrency]
lock_path = {directory}/lock
[oslo_policy]
policy_file = {directory}/etc/policy.yaml
[paste_deploy]
config_file = {paste_configuration}
"""

# A request that did not pass Keystone has no role, and the rules by default
# ask for one.
_POLICY = ''.join(
    f'{rule}: ""\n'
    for rule in (
        'add_image',
        'communitize_image',
        'delete_image',
        'download_image',
        'get_image',
        'get_images',
        'modify_image',
        'publicize_image',
        'upload_image',
    )
)

# Glance parses sys.argv, so gunicorn gets its options from its file.
_GUNICORN_CONFIGURATION = """\
from sqlalchemy import Engine
from sqlalchemy import event

wsgi_app = 'glance.wsgi.api:application'
bind = 'fd://{descriptor}'
worker_class = 'gthread'
threads = 8
# A worker with a long upload is not a dead one.
timeout = 600
graceful_timeout = 5
# Longer than the pauses of a client that polls.
keepalive = 75
control_socket_disable = True


# Two requests that begin by reading and go on to write wait for each other:
# SQLite fails both at once, "database is locked". So they queue up before.
@event.listens_for(Engine, 'before_cursor_execute', retval=True)
def begin_immediate(connection, cursor, statement, parameters, *rest):
    if statement == 'BEGIN':
        statement = 'BEGIN IMMEDIATE'
    return statement, parameters
"""


class Glance:
    """A Glance with everything it writes in *directory*.

    In a ``with`` the object owns it: it starts there, and leaves nothing
    behind.

    :param options: values by group and name, beside those of the lab
    """

    def __init__(
        self,
        directory: Path,
        options: Mapping[tuple[str, str], object] | None = None,
    ) -> None:
        self.directory = directory
        self._options = options or {}
        self._daemon = Daemon('glance', directory)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def url(self) -> str:
        """The endpoint, which is the same after every restart.

        :raises LabError: it was never started
        """
        if not self._port_file.exists():
            raise LabError(f'no Glance was ever started in {self.directory}')
        return f'http://{_ADDRESS}:{self._port_file.read_text()}'

    @property
    def running(self) -> bool:
        return self._daemon.running

    def start(self) -> None:
        """Start it and wait until it answers; install it before if needed.

        :raises LabError: it is running already or does not come up; the
            message has the end of its log
        """
        install = GlanceInstall.ensure()
        for name in ('images', 'staging', 'tasks', 'lock', 'etc'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        database = self.directory / 'glance.sqlite'
        if not database.exists():
            shutil.copy(install.database, database)
        with self._listen() as listener:
            self._configure(install, listener.fileno())
            self._daemon.start(
                [install.python, '-m', 'gunicorn'],
                {'OS_GLANCE_CONFIG_DIR': str(self.directory / 'etc')},
                [listener.fileno()],
            )
        try:
            wait_until(self._up_or_dead, 'Glance to answer', _START_TIMEOUT)
        except LabTimeout as error:
            self._daemon.kill()
            raise LabTimeout(f'{error}:\n{self._daemon.log_tail()}') from error
        if not self.running:
            raise LabError(f'Glance died:\n{self._daemon.log_tail()}')

    def stop(self) -> None:
        """Stop it; its images stay."""
        self._daemon.stop(_STOP_TIMEOUT)

    def kill(self) -> None:
        """Kill it as a crash would, in the middle of what it does."""
        self._daemon.kill()

    def discard(self) -> None:
        """Stop it and remove all it has written."""
        self._daemon.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def store_files(self) -> list[Path]:
        """The files in its store, one for each image with data."""
        return sorted((self.directory / 'images').glob('*'))

    @property
    def _port_file(self) -> Path:
        return self.directory / 'port'

    def _listen(self) -> socket.socket:
        """A socket to hand down: nobody can take the port meanwhile."""
        known = self._port_file.exists()
        port = int(self._port_file.read_text()) if known else 0
        listener = socket.create_server((_ADDRESS, port))
        self._port_file.write_text(str(listener.getsockname()[1]))
        return listener

    def _configure(self, install: GlanceInstall, descriptor: int) -> None:
        etc = self.directory / 'etc'
        (etc / 'policy.yaml').write_text(_POLICY)
        (etc / 'glance-api.conf').write_text(
            _GLANCE_CONFIGURATION.format(
                directory=self.directory,
                paste_configuration=install.paste_configuration,
            )
            # A group may come several times.
            + ''.join(
                f'[{group}]\n{name} = {value}\n'
                for (group, name), value in self._options.items()
            )
        )
        # gunicorn looks for a file of this name where it is started.
        (self.directory / 'gunicorn.conf.py').write_text(
            _GUNICORN_CONFIGURATION.format(descriptor=descriptor)
        )

    def _up_or_dead(self) -> bool:
        try:
            with urllib.request.urlopen(f'{self.url}/healthcheck', timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return not self.running
