# SPDX-License-Identifier: Apache-2.0
"""libvirt's QEMU driver inside this process: no daemon, no root, no config.

Two facts of libvirt shape the use of it:

* A process can open one root directory, and keeps it locked until it ends,
  also after the last connection is closed. Domains outlive the process, and
  the next one that opens the directory finds them. So a test that lets
  another program work on a guest must not open the directory itself: see
  :func:`lab.apart.apart`.
* The process has to run libvirt's event loop.
"""

import contextlib
import functools
import grp
import os
import pwd
import shutil
import threading
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Self

import libvirt

from lab import identity
from lab import secret
from lab.accelerator import hide_kvm
from lab.directory import check_socket_path
from lab.errors import LabError

_CONFIGURATION = """\
# There is no virtlogd to hand the output of QEMU to.
stdio_handler = "file"
remember_owner = 0
namespaces = []
"""

# Options for root: by default QEMU runs as libvirt-qemu and the TPM as tss,
# which may not read this directory.
_CONFIGURATION_OF_ROOT = """\
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
"""

# Options for another user, as in a deployment.
_CONFIGURATION_OF_USER = """\
user = "{user}"
group = "{group}"
dynamic_ownership = 1
"""

_NO_SECURITY_DRIVER = """\
security_driver = "none"
"""

_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


class Hypervisor:
    """A root directory of libvirt's embedded QEMU driver.

    Nothing is written or locked before :attr:`connection` is used.

    :param root: created with its parents if it is missing
    :param user: that QEMU runs as, if it is another one than this process;
        for root alone. QEMU has to be able to come to *root*
    :raises LabError: its path is too long for the sockets of libvirt
    """

    def __init__(self, root: Path, user: str | None = None) -> None:
        # libvirt cuts the name of the domain after 20 characters.
        check_socket_path(
            root / 'lib/qemu' / f'domain-99999-{"n" * 20}' / 'monitor.sock'
        )
        self.root = root
        self.user = user
        self.guests = root / 'guests'
        self.uri = f'qemu:///embed?root={urllib.parse.quote(str(root))}'
        self._connection: libvirt.virConnect | None = None
        self._secrets: libvirt.virConnect | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self.user)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def connection(self) -> libvirt.virConnect:
        """The connection, opened at the first use.

        :raises LabError: another process has the root directory open, or
            this process has opened another one
        """
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def close(self) -> None:
        """Close the connection; domains go on running."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._secrets is not None:
            self._secrets.close()
            self._secrets = None

    def learn_of_qemu(self) -> None:
        """Have libvirt ask QEMU what it is capable of; to be called apart.

        Where root may use KVM and the user of QEMU may not, libvirt, which
        asks as root, takes the answer for outdated when it is started again,
        and asks anew each time. That takes seconds. Without KVM the answer
        stays valid. Source: ``virQEMUCapsIsValid``.
        """
        hide_kvm()
        self.connection.getDomainCapabilities(None, 'x86_64', None, 'qemu')

    def domain(self, name: str) -> libvirt.virDomain | None:
        """Return a domain by its name, None if there is none."""
        try:
            return self.connection.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return None

    def domains(self) -> list[libvirt.virDomain]:
        """Return all domains, running or only defined."""
        return list(self.connection.listAllDomains())

    def clear(self) -> None:
        """Discard every domain, remove the files of every guest."""
        for domain in self.domains():
            discard(domain)
        shutil.rmtree(self.guests, ignore_errors=True)

    def _configuration(self) -> str:
        if self.user is not None:
            group = grp.getgrgid(pwd.getpwnam(self.user).pw_gid).gr_name
            return _CONFIGURATION + _CONFIGURATION_OF_USER.format(
                user=self.user, group=group
            )
        if os.geteuid() == 0:
            return (
                _CONFIGURATION + _NO_SECURITY_DRIVER + _CONFIGURATION_OF_ROOT
            )
        return _CONFIGURATION + _NO_SECURITY_DRIVER

    def _open(self) -> libvirt.virConnect:
        run_event_loop()
        etc = self.root / 'etc'
        etc.mkdir(parents=True, exist_ok=True)
        (etc / 'qemu.conf').write_text(self._configuration())
        identity.assume()
        secret.keep(etc / 'secrets')
        try:
            # libvirt looks for this driver when it loads that of QEMU.
            self._secrets = libvirt.open(self.uri.replace('qemu', 'secret', 1))
            identity.bequeath(self._secrets)
            connection = libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise LabError(f"can't open {self.uri}: {error}") from error
        for domain in connection.listAllDomains(
            libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        ):
            # libvirt finds the guests of its predecessor in the background;
            # before that a guest agent is "not connected". A query has to
            # wait for it; it fails if the guest is gone.
            with contextlib.suppress(libvirt.libvirtError):
                domain.memoryStats()
        return connection


def discard(domain: libvirt.virDomain) -> None:
    """Stop a domain the hard way and forget everything about it."""
    for forget in (
        domain.destroy,
        functools.partial(domain.undefineFlags, _UNDEFINE),
    ):
        try:
            forget()
        except libvirt.libvirtError as error:
            # The domain was not running, was not persistent, or was transient
            # and has gone with the destroy.
            if error.get_error_code() not in (
                libvirt.VIR_ERR_OPERATION_INVALID,
                libvirt.VIR_ERR_NO_DOMAIN,
            ):
                raise


@functools.cache
def run_event_loop() -> None:
    """Run libvirt's event loop; to be called before a connection opens."""
    # By default every error is also printed, the expected ones too.
    libvirt.registerErrorHandler(lambda context, error: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, name='libvirt', daemon=True).start()
