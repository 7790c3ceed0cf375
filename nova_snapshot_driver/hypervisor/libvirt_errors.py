# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.hypervisor.bindings import libvirt

#: How many names in a row may be taken: a call of this driver takes but one.
MOST_NAMES_TAKEN = 4


@contextlib.contextmanager
def translated(domain: str, operation: str) -> Iterator[None]:
    """
    :param operation: what is tried inside, in words
    :raises DomainNotFound: libvirt does not know the domain (any more)
    :raises HypervisorError: libvirt refuses for any other reason
    """
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise exception.DomainNotFound(domain=domain) from error
        raise exception.HypervisorError(
            domain=domain,
            operation=operation,
            reason=error.get_error_message() or str(error),
        ) from error


def is_of_lock(error: BaseException | None) -> bool:
    """Another call to the domain is under way, for as long as libvirt waits.

    Source: ``virDomainObjBeginJobInternal`` in libvirt.
    """
    return (
        isinstance(error, libvirt.libvirtError)
        and error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT
    )


def is_answer_of_agent(error: libvirt.libvirtError) -> bool:
    """The guest agent has answered, that a command failed or is refused.

    Before libvirt 9.1 such an error has no code of its own. Source:
    ``qemuAgentCheckError`` in libvirt.
    """
    return 'unable to execute QEMU agent command' in str(error)


def is_refusal_of_agent(error: libvirt.libvirtError) -> bool:
    """The guest agent does not execute that command.

    Its configuration forbids it, it is too old, or it has frozen the file
    systems. Source: ``qmp_dispatch`` in QEMU.
    """
    return is_answer_of_agent(error) and any(
        words in str(error)
        for words in ('has been disabled', 'has not been found')
    )


def with_free_names(call: Callable[[], object]) -> None:
    """Do what adds nodes to QEMU, by names that no other has.

    libvirt numbers them. When it was killed, it may have forgotten the last
    numbers, and their nodes are still there: every attempt takes the next one.
    """
    retry.call(
        call,
        "add nodes to QEMU's graph",
        _is_of_a_name,
        attempts=MOST_NAMES_TAKEN + 1,
        pause=0,
    )


def _is_of_a_name(error: BaseException) -> bool:
    """The error is QEMU's own, and has no code."""
    return isinstance(
        error, libvirt.libvirtError
    ) and 'Duplicate nodes with node-name' in str(error)
