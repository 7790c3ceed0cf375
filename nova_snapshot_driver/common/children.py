# SPDX-License-Identifier: Apache-2.0
"""The children of this process: their environment, and what is logged of them.

The environment of this process may hold the user's password. A child does not
need it, and some children handle data that others have written.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable

from nova_snapshot_driver.common import reason

# The data plane has this module too, and no time to load oslo.log.
LOG = logging.getLogger(__name__)

#: The variables that a child inherits: paths, locales, proxies, and no secret
#: of the cloud.
INHERITED = frozenset(
    {
        *('PATH', 'HOME', 'USER', 'LOGNAME', 'TMPDIR', 'TZ'),
        *('LANG', 'LANGUAGE', 'LD_LIBRARY_PATH', 'VIRTUAL_ENV'),
        # requests honours these variables.
        *('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'),
        *('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'),
        *('SSL_CERT_FILE', 'SSL_CERT_DIR'),
        *('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'),
        # The variables that locate Ceph, for Nova too.
        *('CEPH_ARGS', 'CEPH_CONF', 'CEPH_KEYRING', 'CEPH_LIB'),
    }
)

#: The prefixes of other variables: of the locale, of Python and its coverage,
#: and of libvirt, whose sockets are where XDG_RUNTIME_DIR says.
INHERITED_PREFIXES = ('LC_', 'PYTHON', 'COVERAGE_', 'LIBVIRT_', 'XDG_')


def environment(**more: str) -> dict[str, str]:
    """The environment of a child.

    :param more: variables that are added or replaced
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }
    return inherited | more


def log_start(command: Iterable[str]) -> None:
    """Log a command that is about to run, for whoever debugs.

    Whoever is on the host sees the arguments of a command as well: none has a
    secret in it.
    """
    LOG.debug('Running %s', reason.plain(shlex.join(command)))
