# SPDX-License-Identifier: Apache-2.0
"""What the watchdog does, once it has something to do."""

from __future__ import annotations

import logging as standard_logging
import sys
import time

from oslo_config import cfg
from oslo_log import log as logging

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.host import Host

LOG = logging.getLogger(__name__)

#: How long it is tried again, in seconds: libvirt may have to be started anew,
#: and the kernel to let go of the lock of a process that is dying.
PATIENCE = 60.0
INTERVAL = 0.5


def run(
    uri: str, domain: str, uuid: str, options: list[tuple[str, str, object]]
) -> None:
    """Give a guest back, but for what is in the cloud.

    :param uri: of libvirt
    :param options: group, name and value
    """
    standard_logging.basicConfig(
        stream=sys.stderr,
        level=standard_logging.WARNING,
        format='%(asctime)s %(levelname)s %(name)s [watchdog] %(message)s',
    )
    configuration = conf.load([], [(g, o, value) for g, o, value in options])
    LOG.warning(
        'Domain %s: the process that took a snapshot of it has died', domain
    )
    deadline = time.monotonic() + PATIENCE
    while (error := _rescue(uri, domain, uuid, configuration)) is not None:
        if time.monotonic() > deadline:
            LOG.error('%s', error)
            return
        time.sleep(INTERVAL)


def _rescue(
    uri: str, domain: str, uuid: str, configuration: cfg.ConfigOpts
) -> exception.SnapshotError | None:
    """
    :returns: why something is not given back that could be
    """
    try:
        with Host.open(uri) as host:
            driver = SnapshotDriver(configuration, host)
            outcome = driver.heal_domain(uuid, domain, None)
    except exception.SnapshotError as error:
        return error
    return next(iter(outcome.errors_without_glance), None)
