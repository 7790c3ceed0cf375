# SPDX-License-Identifier: Apache-2.0
"""The hypervisor of a host: the connection that its guests are reached by."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.hypervisor import bindings
from nova_snapshot_driver.hypervisor import libvirt_xml
from nova_snapshot_driver.hypervisor.bindings import libvirt
from nova_snapshot_driver.hypervisor.domain import QemuUser
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.guest import define
from nova_snapshot_driver.hypervisor.guest import secret_of
from nova_snapshot_driver.hypervisor.libvirt_errors import translated
from nova_snapshot_driver.hypervisor.libvirt_objects import Correspondent
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject
from nova_snapshot_driver.hypervisor.libvirt_objects import Patience
from nova_snapshot_driver.hypervisor.libvirt_objects import of_connection

#: How long libvirtd may take to be restarted, in seconds, and how often it is
#: looked for.
RESTART_TIMEOUT = 30
RESTART_INTERVAL = 0.5


class Host:
    """The hypervisor of this host.

    :param connection: a ``virConnect`` whose process runs libvirt's event
        loop, which the end of a block job is read from
    :param reconnect: makes another one, where libvirtd has died, or raises
        ``ConnectionFailed``; None: there is no other
    """

    def __init__(
        self, connection: Any, reconnect: Callable[[], Any] | None = None
    ) -> None:
        self._patience = Patience()
        self._connection = of_connection(connection, self._patience)
        self._reconnect = reconnect

    def have_patience(self, patience: Patience) -> None:
        """Bound what its guests are asked from now on."""
        self._patience = patience
        self._connection.correspondent.patience = patience

    @classmethod
    @contextlib.contextmanager
    def open(cls, uri: str) -> Iterator[Host]:
        """A connection of our own, with its event loop.

        :param uri: libvirt's URI; empty is ``qemu:///system``
        :raises ConnectionFailed: nobody answers there
        :raises LibvirtMissing: there is no libvirt-python to ask with
        """
        bindings.require()
        uri = uri or 'qemu:///system'
        _run_event_loop()
        with cls.connected(uri, lambda: libvirt.open(uri)) as host:
            yield host

    @classmethod
    @contextlib.contextmanager
    def connected(cls, uri: str, connect: Callable[[], Any]) -> Iterator[Host]:
        """A connection that is closed in the end.

        libvirtd bounds what one connection asks for at a time
        (``max_client_requests``): what a QEMU does not answer is in nobody
        else's way.

        :param uri: libvirt's, for a person
        :param connect: makes one, in a process that runs libvirt's event loop
        :raises ConnectionFailed: nobody answers there
        """
        with contextlib.ExitStack() as connections:

            def open_one() -> Any:
                connection = _open(uri, connect)
                connections.callback(_close, connection)
                return connection

            yield cls(open_one(), open_one)

    def libvirt_version(self) -> int:
        """As libvirt counts: 9.1.2 is 9001002."""
        with translated('-', 'read the version of libvirt'):
            return int(self._connection.getLibVersion())

    def qemu_version(self) -> int:
        """As libvirt counts: 7.2.22 is 7002022."""
        with translated('-', 'read the version of QEMU'):
            return int(self._connection.getVersion())

    def qemu_user(self) -> QemuUser | None:
        """The user that QEMU runs as, unless a domain has another one.

        Source: https://libvirt.org/formatcaps.html
        """
        with translated('-', 'read the capabilities of the host'):
            capabilities = self._connection.getCapabilities()
        root = libvirt_xml.parsed(capabilities, 'the host')
        for model in root.iterfind('host/secmodel'):
            if model.findtext('model') == 'dac':
                return QemuUser.from_label(model.findtext('baselabel'))
        return None

    def secret(self, uuid: str) -> str | None:
        """A secret of libvirt, in base64.

        :param uuid: of the secret
        :returns: None where there is none, or libvirt keeps it to itself
        """
        try:
            with translated('-', 'read a secret'):
                return secret_of(self._connection, uuid)
        except exception.HypervisorError:
            return None

    def guest(self, name: str) -> Guest:
        """The guest of a domain.

        :param name: the domain's name or its UUID
        :raises DomainNotFound: there is none
        """
        try:
            name.encode()
        except UnicodeEncodeError as error:
            # An argument of a shell may be anything; libvirt has UTF-8 alone.
            raise exception.DomainNotFound(domain=name) from error
        with translated(name, 'look up'):
            try:
                found = self._connection.lookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                try:
                    found = self._connection.lookupByUUIDString(name)
                except libvirt.libvirtError as other:
                    # Not even the shape of a UUID: what was meant is a name.
                    if other.get_error_code() == libvirt.VIR_ERR_INVALID_ARG:
                        raise error from other
                    raise
            return Guest(found, self._renewed)

    def guests(self) -> list[Guest]:
        """The guests of all domains, whether they run or not."""
        with translated('-', 'list the domains'):
            return [
                Guest(domain, self._renewed)
                for domain in self._connection.listAllDomains(0)
            ]

    def define(self, definition: Definition) -> None:
        """Make a domain persistent, or define it anew."""
        define(self._connection, definition)

    def _renewed(self, handle: LibvirtObject) -> LibvirtObject:
        """The handle of a domain, of a libvirtd that was restarted.

        :returns: the same one where none was, or none is to be reached
        :raises DomainNotFound: the domain has not outlived it
        """
        if self._reconnect is None or handle.connect().isAlive():
            return handle
        uuid = handle.UUIDString()
        try:
            connection = retry.call(
                self._reconnect,
                'connect to a libvirtd that is restarted',
                exception.ConnectionFailed,
                timeout=RESTART_TIMEOUT,
                pause=RESTART_INTERVAL,
            )
            self._connection = of_connection(connection, self._patience)
            with translated(uuid, 'look up'):
                return handle.renewed(
                    self._connection.lookupByUUIDString(uuid)
                )
        except (
            exception.ConnectionFailed,
            exception.HypervisorError,
            exception.HypervisorSilent,
        ):
            return handle


def _open(uri: str, connect: Callable[[], Any]) -> Any:
    try:
        return Correspondent(uri, '-', Patience()).ask('open', connect)
    except exception.HypervisorSilent as error:
        raise exception.ConnectionFailed(
            uri=uri, reason=f'no answer within {error.fields["seconds"]} s'
        ) from error
    except libvirt.libvirtError as error:
        raise exception.ConnectionFailed(
            uri=uri, reason=error.get_error_message() or str(error)
        ) from error


def _close(connection: Any) -> None:
    # libvirtd may have gone before.
    with contextlib.suppress(libvirt.libvirtError, exception.HypervisorSilent):
        of_connection(connection, Patience()).close()


_event_loop_lock = threading.Lock()
_event_loop_runs = False


def _run_event_loop() -> None:
    """Run libvirt's event loop in a thread, once for the whole process."""
    global _event_loop_runs
    with _event_loop_lock:
        if _event_loop_runs:
            return
        libvirt.virEventRegisterDefaultImpl()
        # libvirt prints every error to stderr, unless it is told where to.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        threading.Thread(
            target=_event_loop, name='libvirt-events', daemon=True
        ).start()
        _event_loop_runs = True


def _event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
