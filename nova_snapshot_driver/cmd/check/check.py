# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot check``: can this host take snapshots?"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import compute_driver
from nova_snapshot_driver.cmd.check import configuration
from nova_snapshot_driver.cmd.check import deployment
from nova_snapshot_driver.cmd.check import directories
from nova_snapshot_driver.cmd.check import domains
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check import own_options
from nova_snapshot_driver.cmd.check import probe
from nova_snapshot_driver.cmd.check import removal
from nova_snapshot_driver.cmd.check import report
from nova_snapshot_driver.cmd.check import running_api
from nova_snapshot_driver.cmd.check import shadow_volumes
from nova_snapshot_driver.cmd.check import volume_service
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.finding import look
from nova_snapshot_driver.cmd.check.interpreter import OPTION
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.common import landlock
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.state import reach
from nova_snapshot_driver.state.workspace import Place

#: The least versions of Nova 34 (``MIN_LIBVIRT_VERSION``,
#: ``MIN_QEMU_VERSION``).
MIN_LIBVIRT_VERSION = 8_000_000
MIN_QEMU_VERSION = 6_002_000

#: The exit status of ``--expect-driver`` for a host that is ready, and whose
#: ``compute_driver`` is another one. 2 and 3 are those of all commands.
NOT_SWITCHED_ON = 4

#: The words for all verdicts together, by the exit status.
READY = {
    0: 'Ready',
    1: 'Not ready',
    NOT_SWITCHED_ON: 'Installed, not switched on',
}
REMOVABLE = {0: 'May be removed', 1: 'Not yet'}


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'check',
        parents=[common],
        help='check whether this host can take snapshots',
        description='Check whether this host can take snapshots, by doing '
        'all that a snapshot does on a small scale. A problem is named with '
        'its remedy, and the exit status is 1. Warnings do not change it.',
    )
    parser.add_argument(
        'domains',
        metavar='DOMAIN',
        nargs='*',
        help='a domain to plan a snapshot of, whose agent is asked',
    )
    parser.add_argument(
        '--nova-python',
        metavar='PATH',
        help='the Python that nova-compute runs on (default: the one that '
        'the script nova-compute names)',
    )
    purpose = parser.add_mutually_exclusive_group()
    purpose.add_argument(
        '--expect-driver',
        action='store_true',
        help='nova-compute is to have the driver: fail if it does not find '
        f'it, and exit with {NOT_SWITCHED_ON} if all is ready and '
        'compute_driver does not name it',
    )
    purpose.add_argument(
        '--before-removal',
        action='store_true',
        help='say instead what still uses the driver on this host, and what '
        'would remain of it; the exit status is 1 for as long as something '
        'would break without the package',
    )
    parser.set_defaults(
        run=run, overrides=lambda _arguments: [], refuse=parser.error
    )


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    options = nova_options.load(conf)
    if arguments.before_removal:
        return _before_removal(arguments, conf, options)
    findings = list(_findings(arguments, conf, options, cancellation))
    status = _status(
        findings,
        is_missed=arguments.expect_driver
        and options.compute_driver != compute_driver.OURS,
    )
    report.show(findings, _word(status, findings), arguments.format)
    return status


def _word(status: int, findings: Sequence[Finding]) -> str:
    """The word for all verdicts, which is only as certain as they are."""
    is_certain = status == 1 or not any(
        found.detail.startswith(NOT_KNOWN) for found in findings
    )
    return READY[status] if is_certain else f'{READY[status]}, as far as known'


def _before_removal(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    options: cfg.ConfigOpts,
) -> int:
    if arguments.domains:
        arguments.refuse('argument DOMAIN: not allowed with --before-removal')
    service_user = ServiceUser(options, conf.glance.timeout)
    findings = list(removal.findings(conf, options, service_user))
    status = _status(findings, is_missed=False)
    report.show(findings, REMOVABLE[status], arguments.format)
    return status


def _status(findings: Sequence[Finding], is_missed: bool) -> int:
    """The exit status.

    :param is_missed: ``compute_driver`` is to name the driver, and does not
    """
    if any(found.verdict == Verdict.FAILURE for found in findings):
        return 1
    return NOT_SWITCHED_ON if is_missed else 0


def _findings(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    options: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> Iterator[Finding]:
    service_user = ServiceUser(options, conf.glance.timeout)
    user = NovaUser.find(conf)
    examined = deployment.examine(
        arguments.nova_python,
        arguments.expect_driver
        or compute_driver.is_meant(options.compute_driver),
        user,
        conf.snapshot.metrics_file is not None,
        cancellation,
    )
    yield from configuration.findings(conf, bool(examined.findings))
    yield from _nova(conf, options, examined.findings, service_user)
    yield from api_paste.findings(
        options.wsgi.api_paste_config, conf.config_file
    )
    yield from running_api.findings(
        options.wsgi.api_paste_config, conf.config_file, service_user
    )
    yield from own_options.findings(configuration.files(conf))
    yield from _directories(conf, user)
    if conf.snapshot.metrics_file is not None:
        yield look(
            'Metrics',
            lambda: directories.metrics(conf.snapshot.metrics_file, user),
        )
    yield from shadow_volumes.findings(conf)
    yield _confinement()
    yield from probe.findings(
        arguments, conf, service_user, examined.streams, cancellation
    )
    yield from _host(arguments.domains, conf)


def _confinement() -> Finding:
    version = landlock.version()
    if version:
        return Finding(
            'Data plane: confinement',
            Verdict.SUCCESS,
            f'Landlock, version {version}, holds the process that reads a '
            'disk to the files of its snapshot.',
        )
    return Finding(
        'Data plane: confinement',
        Verdict.WARNING,
        'This kernel has no Landlock: the process that reads a disk may come '
        'to all files of its user. Enable it with lsm=landlock,... on the '
        'command line of a kernel from 5.13 on.',
    )


def _nova(
    conf: cfg.ConfigOpts,
    options: cfg.ConfigOpts,
    found: list[Finding],
    service_user: ServiceUser,
) -> Iterator[Finding]:
    """
    :param found: on nova-compute's Python
    """
    if not found:
        yield Finding(
            'Nova',
            Verdict.WARNING,
            'There is none to be found, and this command needs none. If '
            f'nova-compute has an environment of its own: {OPTION}',
        )
        return
    yield compute_driver.finding(options.compute_driver, conf.config_file)
    yield from found
    yield from nova_options.findings(conf, options)
    yield from service_user.findings()
    yield from volume_service.findings(options)


def _directories(conf: cfg.ConfigOpts, user: NovaUser) -> Iterator[Finding]:
    yield from user.findings(conf.config_file)
    yield look(
        'State directory',
        lambda: directories.state(conf.snapshot.state_directory, user),
    )
    yield look(
        'Snapshots directory',
        lambda: directories.temporary(
            Place(conf.libvirt.snapshots_directory), user
        ),
    )
    yield from directories.socket_room(
        conf.libvirt.snapshots_directory, conf.snapshot.method
    )
    if conf.snapshot.scratch_directory:
        yield look(
            'Scratch directory',
            lambda: directories.temporary(
                backup.scratch_place(read_settings(conf).capture), user
            ),
        )


def _host(names: list[str], conf: cfg.ConfigOpts) -> Iterator[Finding]:
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(Host.open(conf.libvirt.connection_uri))
        except (
            exception.ConnectionFailed,
            exception.LibvirtMissing,
        ) as error:
            yield Finding('libvirt', Verdict.FAILURE, str(error))
            return
        yield look(
            'libvirt',
            lambda: _recent(host.libvirt_version(), MIN_LIBVIRT_VERSION),
        )
        yield look(
            'QEMU', lambda: _recent(host.qemu_version(), MIN_QEMU_VERSION)
        )
        yield look('QEMU: directories', lambda: _reachable(conf, host))
        for name in names:
            yield from domains.findings(conf, host, name)


def _reachable(conf: cfg.ConfigOpts, host: Host) -> str:
    user = host.qemu_user()
    if user is None:
        return 'libvirt gives QEMU no user of its own'
    for place in (
        Place(conf.libvirt.snapshots_directory),
        backup.scratch_place(read_settings(conf).capture),
    ):
        # A directory that is hidden from this process is passed over below.
        os.lstat(directories.existing(place.directory))
        reach.require(user, place)
    return f'{reach.user_name(user.uid)} is not kept out by a mode'


def _recent(found: int, least: int) -> str:
    if found < least:
        raise exception.TooOld(found=_dotted(found), least=_dotted(least))
    return _dotted(found)


def _dotted(version: int) -> str:
    return f'{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}'
