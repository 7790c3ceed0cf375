# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import libvirt

from nova_snapshot_driver import exception


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
