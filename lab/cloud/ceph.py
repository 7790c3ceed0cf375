# SPDX-License-Identifier: Apache-2.0
"""A Ceph of one node: a monitor, a manager and an OSD."""

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.files import write_private
from lab.cloud.keyring import POOLS
from lab.cloud.keyring import keyring
from lab.cloud.keyring import read_key
from lab.cloud.keyring import write_keyrings
from lab.cloud.log import ServiceLog
from lab.cloud.service import Service
from lab.cloud.service import listens
from lab.cloud.settings import ADDRESS
from lab.cloud.settings import Settings
from lab.directory import check_socket_path
from lab.errors import LabError

_MAKE_TIMEOUT = 120
_COMMAND_TIMEOUT = 120
_PROBE_TIMEOUT = 10
_FULL_TIMEOUT = 60

#: The defaults of Ceph.
_RATIOS = ('0.85', '0.9', '0.95')

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = {addresses}
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {root}/$name.keyring
run_dir = {root}
crash_dir = {root}/crash
log_file =
mon_cluster_log_file =
# There is one disk.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_allow_pool_delete = true
# The disk of the machine is none of its business.
mon_data_avail_warn = 2
mon_data_avail_crit = 1
[mon]
mon_data = {root}/mon
log_to_stderr = true
[mgr]
mgr_data = {root}/mgr
# It adds up how full the pools are, without which Cinder finds no room. Its
# modules do nothing for that, and take 250 MB and some seconds.
mgr_module_path = {root}/modules
log_to_stderr = true
[osd]
osd_data = {root}/osd
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = {size}
# By itself it would take a gigabyte.
bluestore_cache_autotune = false
bluestore_cache_size = {cache}
log_to_stderr = true
[client]
admin_socket =
log_to_stderr = false
"""

_SIZE = 20 << 30
_CACHE = 64 << 20


class Ceph:
    """The daemons, with their files in ``DIRECTORY/ceph``.

    :param directory: of the cloud
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._root = directory / 'ceph'
        check_socket_path(self._root / 'ceph-mon.a.asok')
        self._settings = settings
        #: the configuration of all daemons and clients
        self.configuration = self._root / 'ceph.conf'
        self.monitor = self._service(
            directory, 'mon', 'a', listens(settings.ports['ceph'])
        )
        self.manager = self._service(directory, 'mgr', 'x', lambda log: True)
        self.osd = self._service(directory, 'osd', '0', self._serves)

    @property
    def all(self) -> list[Service]:
        return [self.monitor, self.manager, self.osd]

    def start(self) -> None:
        """Start what does not run, with new pools if there are none.

        :raises LabError: a daemon does not come up
        """
        if not self._stamp.exists():
            # Stop what an interrupted attempt has left behind.
            self.stop()
            self._begin()
        self.monitor.start()
        with ThreadPoolExecutor() as pool:
            if not self._stamp.exists():
                for future in [
                    pool.submit(self._make_osd),
                    *(pool.submit(self._make_pool, name) for name in POOLS),
                ]:
                    future.result()
                self._stamp.touch()
            for future in [
                pool.submit(daemon.start)
                for daemon in (self.manager, self.osd)
            ]:
                future.result()

    def stop(self) -> None:
        # The OSD takes its leave of the monitor.
        self.osd.stop()
        self.manager.stop()
        self.monitor.stop()

    # Commands of a user of Ceph

    def key(self, user: str) -> str:
        """The key of a user, such as ``cinder``."""
        return read_key(keyring(self._root, f'client.{user}'))

    def ceph(self, *arguments: str | Path, user: str = 'admin') -> str:
        """Run ``ceph`` and return what it says.

        :raises LabError: it failed, or took more than two minutes
        """
        return self._run('ceph', *arguments, user=user)

    def rbd(self, *arguments: str | Path, user: str = 'admin') -> str:
        """Run ``rbd`` and return its output.

        Some of its commands take ``--no-progress``.
        """
        return self._run('rbd', *arguments, user=user)

    @contextlib.contextmanager
    def restricted(self, user: str, osd: str) -> Iterator[None]:
        """Restrict what a user may do with data inside.

        :param osd: what it may, in the words of ``ceph auth caps``
        """
        client = f'client.{user}'
        users = json.loads(self.ceph('auth', 'ls', '--format', 'json'))
        known = {each['entity']: each['caps'] for each in users['auth_dump']}
        self._allow(client, {**known[client], 'osd': osd})
        try:
            yield
        finally:
            self._allow(client, known[client])

    def _allow(self, client: str, capabilities: Mapping[str, str]) -> None:
        pairs = [word for pair in capabilities.items() for word in pair]
        self.ceph('auth', 'caps', client, *pairs)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Fill the cluster inside: all writes wait."""
        self._limit(*['0.0001'] * 3)
        try:
            wait_until(self._is_full, 'Ceph to be full', _FULL_TIMEOUT, 0.3)
            yield
        finally:
            self._limit(*_RATIOS)
            wait_until(
                lambda: not self._is_full(),
                'Ceph to have room again',
                _FULL_TIMEOUT,
                0.3,
            )

    def _limit(self, nearfull: str, backfillfull: str, full: str) -> None:
        # Set the ratios in order: Ceph takes none below those before it.
        self.ceph('osd', 'set-nearfull-ratio', nearfull)
        self.ceph('osd', 'set-backfillfull-ratio', backfillfull)
        self.ceph('osd', 'set-full-ratio', full)

    def _is_full(self) -> bool:
        known = json.loads(self.ceph('osd', 'dump', '--format', 'json'))
        return any(
            'full' in pool['flags_names'].split(',') for pool in known['pools']
        )

    def _run(
        self,
        program: str,
        *arguments: str | Path,
        user: str,
        timeout: float = _COMMAND_TIMEOUT,
    ) -> str:
        return run(
            [
                program,
                *('--conf', self.configuration, '--id', user),
                *arguments,
            ],
            timeout=timeout,
        )

    # Creation

    @property
    def _stamp(self) -> Path:
        return self._root / 'complete'

    def _begin(self) -> None:
        """Write the configuration, the keys and the monitor's store."""
        shutil.rmtree(self._root, ignore_errors=True)
        for name in ('modules', 'mon', 'mgr', 'osd'):
            (self._root / name).mkdir(parents=True)
        ports = self._settings.ports
        addresses = (
            f'[v2:{ADDRESS}:{ports["ceph"]},v1:{ADDRESS}:{ports["ceph-v1"]}]'
        )
        fsid = str(uuid.uuid4())
        write_private(
            self.configuration,
            _CONFIGURATION.format(
                addresses=addresses,
                cache=_CACHE,
                fsid=fsid,
                root=self._root,
                size=_SIZE,
            ),
        )
        write_keyrings(self._root)
        map_of_monitors = self._root / 'monmap'
        run(
            [
                *('monmaptool', '--create', '--fsid', fsid),
                *('--addv', 'a', addresses, map_of_monitors),
            ],
            timeout=_MAKE_TIMEOUT,
        )
        run(
            [
                *('ceph-mon', '--conf', self.configuration, '--mkfs'),
                *('--id', 'a', '--monmap', map_of_monitors),
                # The monitor imports the users from the file.
                *('--keyring', keyring(self._root, 'all')),
            ],
            timeout=_MAKE_TIMEOUT,
        )

    def _make_osd(self) -> None:
        identity = str(uuid.uuid4())
        self.ceph('osd', 'new', identity, '0')
        run(
            [
                *('ceph-osd', '--conf', self.configuration, '--mkfs'),
                *('--id', '0', '--osd-uuid', identity, '--no-mon-config'),
            ],
            timeout=_MAKE_TIMEOUT,
        )

    def _make_pool(self, name: str) -> None:
        self.ceph('osd', 'pool', 'create', name)
        self.ceph('osd', 'pool', 'application', 'enable', name, 'rbd')

    def _service(
        self,
        directory: Path,
        kind: str,
        identity: str,
        ready: Callable[[ServiceLog], bool],
    ) -> Service:
        return Service(
            f'ceph-{kind}',
            directory,
            [
                *(f'ceph-{kind}', '--foreground', '--id', identity),
                *('--conf', self.configuration),
            ],
            {},
            ready,
        )

    def _serves(self, log: ServiceLog) -> bool:
        """Whether Ceph serves the data of each pool.

        A pool is asked, as Ceph's own status is that of before a restart at
        first.
        """
        try:
            for pool in POOLS:
                self._run(
                    'rbd', 'ls', pool, user='admin', timeout=_PROBE_TIMEOUT
                )
        except LabError:
            return False
        return True
