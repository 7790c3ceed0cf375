# SPDX-License-Identifier: Apache-2.0
"""The rescue of a guest, once its watchdog has something to do."""

from __future__ import annotations

import contextlib
import logging as standard_logging
import os
import sys
from logging import handlers
from typing import Any

from oslo_log import log as logging

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import retry
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.takings.tools import UndoSettings

LOG = logging.getLogger(__name__)

#: How long a rescue is tried again, in seconds: libvirt may have to be started
#: anew, and the kernel to let go of the lock of a process that is dying.
PATIENCE = 60.0
INTERVAL = 0.5

#: How long a rescue is tried again, in seconds, where QEMU answers nothing:
#: until somebody has had a look.
SILENCE_PATIENCE = 86400.0

SYSLOG = '/dev/log'


def run(
    uri: str,
    domain: str,
    uuid: str,
    settings: dict[str, Any],
    reason: str,
    is_left: bool = False,
) -> None:
    """Give a guest back, but for what is in the cloud.

    :param uri: of libvirt
    :param settings: ``UndoSettings.to_dict()``
    :param reason: why there is something to give back
    :param is_left: whoever has started this process has not died, and has
        said what is left to it
    """
    _log_to(_syslog() if is_left else standard_logging.StreamHandler())
    if is_left:
        _let_go_of_stderr()
    undo_settings = UndoSettings.from_dict(settings)
    LOG.warning('Domain %s: %s', domain, reason)
    what = f'Domain {domain}: rescue it'

    def rescue_soon() -> None:
        retry.call(
            lambda: _rescue(uri, domain, uuid, undo_settings),
            what,
            _may_pass_soon,
            timeout=PATIENCE,
            pause=INTERVAL,
        )

    try:
        retry.call(
            rescue_soon,
            what,
            exception.HypervisorSilent,
            timeout=SILENCE_PATIENCE,
            pause=INTERVAL,
        )
    except exception.SnapshotError as error:
        LOG.error('%s', error)


def _may_pass_soon(error: BaseException) -> bool:
    return isinstance(error, exception.SnapshotError) and not isinstance(
        error, exception.HypervisorSilent
    )


def _log_to(handler: standard_logging.Handler) -> None:
    standard_logging.basicConfig(
        handlers=[handler],
        level=standard_logging.WARNING,
        format='%(asctime)s %(levelname)s %(name)s [watchdog] %(message)s',
    )


def _syslog() -> standard_logging.Handler:
    try:
        return handlers.SysLogHandler(SYSLOG)
    except OSError:
        # The host has no syslog.
        return standard_logging.NullHandler()


def _let_go_of_stderr() -> None:
    """Let go of stderr, for whose end a reader of the command may wait."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stderr.fileno())
    os.close(null)


def _rescue(uri: str, domain: str, uuid: str, settings: UndoSettings) -> None:
    """
    :raises SnapshotError: something is not given back that could be
    """
    try:
        with Host.open(uri) as host:
            healer = Healer(settings, host)
            # Ask without the domain's lock: the next snapshot may want it.
            _see_that_it_answers(healer, uuid)
            outcome = healer.heal_domain(uuid, domain, None)
    except exception.SnapshotError:
        raise
    except Exception as error:
        # An unforeseen error is retried too, and becomes one line: stderr is
        # that of the terminal or the service in which the snapshot has died.
        raise exception.UnexpectedError(
            reason=reason.named(error).rstrip('.')
        ) from error
    for left in outcome.errors_without_glance:
        raise left


def _see_that_it_answers(healer: Healer, uuid: str) -> None:
    with contextlib.suppress(exception.DomainNotFound):
        healer.guest(uuid).see_that_it_answers()
