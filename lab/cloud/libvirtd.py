# SPDX-License-Identifier: Apache-2.0
"""A libvirtd beside that of the machine."""

import base64
import contextlib
import os
import shutil
import signal
import urllib.parse
from pathlib import Path

import libvirt

from lab.bounded import wait_until
from lab.cloud.log import ServiceLog
from lab.cloud.service import Ready
from lab.cloud.service import Service
from lab.directory import check_socket_path

_END_TIMEOUT = 20.0

_QEMU_CONFIGURATION = """\
user = "{user}"
group = "{group}"
swtpm_user = "root"
swtpm_group = "root"
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""

_LIBVIRTD_CONFIGURATION = """\
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
"""

_SECRET = """\
<secret ephemeral='no' private='no'>
  <uuid>{uuid}</uuid>
  <usage type='ceph'><name>{name}</name></usage>
</secret>
"""

# libvirt as root has its directories built in: it gets others in their
# places, which no process outside of its mount namespace sees.
_DIRECTORIES = {
    'etc': '/etc/libvirt',
    'state': '/run/libvirt',
    'lib': '/var/lib/libvirt',
    'log': '/var/log/libvirt',
    'cache': '/var/cache/libvirt',
}
_ENTER = """\
set -e
mount --make-rprivate /
root=$1; shift
for pair in {pairs}; do
    mkdir -p "${{pair#*:}}"
    mount --bind "$root/${{pair%%:*}}" "${{pair#*:}}"
done
exec "$@"
""".format(
    pairs=' '.join(f'{ours}:{its}' for ours, its in _DIRECTORIES.items())
)


class Libvirtd:
    """libvirtd and virtlogd, with their files in ``DIRECTORY/libvirt``.

    :param directory: of the cloud
    :param user: that QEMU runs as, with its group
    """

    def __init__(
        self, directory: Path, user: tuple[str, str] = ('root', 'root')
    ) -> None:
        self._user, self._group = user
        self._root = directory / 'libvirt'
        socket = check_socket_path(self._root / 'state/libvirt-sock')
        self.uri = (
            f'qemu+unix:///system?socket={urllib.parse.quote(str(socket))}'
        )
        #: keeps the consoles of the guests, and has to outlive them
        self.virtlogd = self._service('virtlogd', self._virtlogd_ready)
        self.libvirtd = self._service('libvirtd', self._libvirtd_ready)

    def start(self) -> None:
        """Start both unless they run.

        :raises LabError: one does not come up
        """
        for name in _DIRECTORIES:
            (self._root / name).mkdir(parents=True, exist_ok=True)
        etc = self._root / 'etc'
        (etc / 'qemu.conf').write_text(
            _QEMU_CONFIGURATION.format(user=self._user, group=self._group)
        )
        (etc / 'libvirtd.conf').write_text(_LIBVIRTD_CONFIGURATION)
        self.virtlogd.start()
        self.libvirtd.start()

    def keep_key(self, user: str, uuid: str, key: str) -> None:
        """Keep the key of a user of Ceph, for guests with disks in it.

        It is in a file of this libvirtd's as well.

        :param uuid: of the secret
        """
        connection = libvirt.open(self.uri)
        try:
            secret = connection.secretDefineXML(
                _SECRET.format(name=f'client.{user}', uuid=uuid)
            )
            secret.setValue(base64.b64decode(key))
        finally:
            connection.close()

    def stop(self) -> None:
        """Destroy its guests and stop both."""
        self._destroy_guests()
        self.libvirtd.stop()
        self._kill_guests()
        self.virtlogd.stop()

    def cut_off(self) -> None:
        """Kill both and all guests, with what is not on a disk."""
        self.libvirtd.kill()
        self._kill_guests()
        self.virtlogd.kill()
        shutil.rmtree(self._root / 'state')

    def kill_guest(self, domain: str) -> bool:
        """Kill the process of a guest.

        :param domain: its name
        :returns: whether there was one
        """
        try:
            pid = (self._root / f'state/qemu/{domain}.pid').read_text()
            return _kill_guest(Path('/proc', pid.strip()))
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _service(self, name: str, ready: Ready) -> Service:
        return Service(
            name,
            self._root.parent,
            [
                *('unshare', '--mount', 'sh', '-c', _ENTER, name, self._root),
                # The default of its own, /run/NAME.pid, is the machine's.
                *(f'/usr/sbin/{name}', '-p', self._root / f'{name}.pid'),
            ],
            {},
            ready,
        )

    def _virtlogd_ready(self, log: ServiceLog) -> bool:
        return (self._root / 'state/virtlogd-sock').is_socket()

    def _libvirtd_ready(self, log: ServiceLog) -> bool:
        # By default every error is also printed, the expected ones too.
        libvirt.registerErrorHandler(lambda context, error: None, None)
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _destroy_guests(self) -> None:
        if not self.libvirtd.running:
            return
        with contextlib.suppress(libvirt.libvirtError):
            connection = libvirt.open(self.uri)
            for domain in connection.listAllDomains(
                libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
            ):
                with contextlib.suppress(libvirt.libvirtError):
                    domain.destroy()
            connection.close()

    def _kill_guests(self) -> None:
        """Kill those that a libvirtd that was killed has left behind."""
        for file in (self._root / 'state/qemu').glob('*.pid'):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                _kill_guest(Path('/proc', file.read_text().strip()))


def _kill_guest(process: Path) -> bool:
    """
    :returns: whether it was one
    """
    # The process id may be another's by now.
    if b'qemu-system' not in (process / 'cmdline').read_bytes():
        return False
    os.kill(int(process.name), signal.SIGKILL)
    wait_until(
        lambda: not process.exists(),
        f'the end of the guest {process.name}',
        _END_TIMEOUT,
    )
    return True
