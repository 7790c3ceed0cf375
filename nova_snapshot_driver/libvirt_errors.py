# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

import libvirt
import tenacity

from nova_snapshot_driver import exception

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


def with_free_names(call: Callable[[], object]) -> None:
    """Do what adds nodes to QEMU, by names that no other has.

    libvirt numbers them. When it was killed, it may have forgotten the last
    numbers, and their nodes are still there: every attempt takes the next one.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_of_a_name),
        stop=tenacity.stop_after_attempt(MOST_NAMES_TAKEN + 1),
        reraise=True,
    )
    attempts(call)


def _is_of_a_name(error: BaseException) -> bool:
    """The error is QEMU's own, and has no code."""
    return isinstance(
        error, libvirt.libvirtError
    ) and 'Duplicate nodes with node-name' in str(error)
