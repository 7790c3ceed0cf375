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
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import compute_driver
from nova_snapshot_driver.cmd.check import configuration
from nova_snapshot_driver.cmd.check import deployment
from nova_snapshot_driver.cmd.check import directories
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check import own_options
from nova_snapshot_driver.cmd.check import probe
from nova_snapshot_driver.cmd.check import removal
from nova_snapshot_driver.cmd.check import report
from nova_snapshot_driver.cmd.check import running_api
from nova_snapshot_driver.cmd.check import volume_service
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.finding import look
from nova_snapshot_driver.cmd.check.interpreter import OPTION
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.cmd.shared import volume_backed
from nova_snapshot_driver.common import landlock
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.view import RbdImage
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.hypervisor.domain import Disk
from nova_snapshot_driver.hypervisor.domain import Domain
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.snapshot import space
from nova_snapshot_driver.snapshot.capture import backup
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.disk import disks_of
from nova_snapshot_driver.snapshot.disk import obstacles
from nova_snapshot_driver.snapshot.disk import require_reachable
from nova_snapshot_driver.snapshot.disk import with_shut_directories
from nova_snapshot_driver.snapshot.plan.grounds import Words
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.model import AnyPlan
from nova_snapshot_driver.snapshot.plan.model import Method
from nova_snapshot_driver.snapshot.plan.model import Plan
from nova_snapshot_driver.snapshot.plan.planner import make_plan
from nova_snapshot_driver.snapshot.plan.planner import make_volumes_plan
from nova_snapshot_driver.state import reach
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import require_space
from nova_snapshot_driver.takings import lost_agent

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
    is_known = not any(
        found.detail.startswith(NOT_KNOWN) for found in findings
    )
    report.show(
        findings,
        READY[status] if is_known else f'{READY[status]}, as far as known',
        arguments.format,
    )
    return status


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


def _host(domains: list[str], conf: cfg.ConfigOpts) -> Iterator[Finding]:
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
        for domain in domains:
            yield from _domain(conf, host, domain)


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


def _domain(conf: cfg.ConfigOpts, host: Host, name: str) -> Iterator[Finding]:
    subject = f'Domain {name}'
    settings = read_settings(conf)
    try:
        guest = host.guest(name)
        domain = guest.describe()
        if volume_backed.root_volume(domain):
            yield from _volumes(conf, guest, domain, subject)
            return
        disks = disks_of(domain)
        plan = make_plan(
            settings.plan,
            Instance(name),
            domain,
            disks,
            guest.power.state(),
            with_shut_directories(
                settings.capture, domain, disks, obstacles()
            ),
        )
        require_reachable(settings.capture, domain, plan)
        yield Finding(subject, Verdict.SUCCESS, str(plan))
        for disk in disks:
            yield from _block_job(guest, disk, subject)
            if plan.method is Method.DIRECT and disk.rbd:
                yield _ceph(conf, subject, disk.rbd)
        yield from _agent(conf, guest, subject, plan)
        yield look(f'{subject}: space', lambda: _space(conf, guest, plan))
    except exception.SnapshotError as error:
        yield Finding(subject, Verdict.FAILURE, str(error))


def _block_job(guest: Guest, disk: Disk, subject: str) -> Iterator[Finding]:
    job = guest.jobs.block_job(disk) if guest.is_active() else None
    if job:
        yield Finding(
            f'{subject}: block job',
            Verdict.FAILURE,
            f'a {job} job runs on {disk.target}; a snapshot is refused until '
            'it has ended, unless a dead snapshot left it.',
        )


def _volumes(
    conf: cfg.ConfigOpts, guest: Guest, domain: Domain, subject: str
) -> Iterator[Finding]:
    """Check a domain whose root disk is a volume: it needs no space here."""
    plan = make_volumes_plan(
        read_settings(conf).plan,
        Instance(guest.name),
        domain,
        guest.power.state(),
        len(volume_backed.volumes_of(domain)),
    )
    yield Finding(subject, Verdict.SUCCESS, str(plan))
    yield from _agent(conf, guest, subject, plan)


def _ceph(conf: cfg.ConfigOpts, subject: str, disk: RbdImage) -> Finding:
    subject = f'{subject}: Ceph'
    ceph = Ceph(read_settings(conf).undo.ceph, disk.user)
    try:
        ceph.cluster()
        parent = ceph.parent(disk)
    except (exception.CephError, exception.CommandMissing) as error:
        return Finding(
            subject, Verdict.WARNING, f'the image is streamed: {error}'
        )
    if parent is None:
        return Finding(
            subject,
            Verdict.WARNING,
            f'{disk} is no clone. Where Glance does not show the location of '
            'the image that it was made from, it is streamed.',
        )
    return Finding(
        subject,
        Verdict.SUCCESS,
        f'{disk} is cloned into the pool {parent[0].pool}',
    )


def _agent(
    conf: cfg.ConfigOpts, guest: Guest, subject: str, plan: AnyPlan
) -> Iterator[Finding]:
    subject = f'{subject}: agent'
    if guest.agent.is_lost():
        yield Finding(
            subject,
            Verdict.WARNING,
            'an agent runs in the guest, or libvirt takes it to, and libvirt '
            f'does not reach it. {lost_agent.REMEDY}',
        )
    elif plan.freeze:
        yield _answer(conf, guest, subject, plan)


def _answer(
    conf: cfg.ConfigOpts, guest: Guest, subject: str, plan: AnyPlan
) -> Finding:
    quiesce = Quiesce(
        guest,
        plan,
        conf.snapshot.quiesce_timeout,
        conf.snapshot.thaw_timeout,
    )
    try:
        quiesce.check()
    except exception.QuiesceFailed as error:
        return Finding(subject, Verdict.FAILURE, str(error))
    if not quiesce.possible:
        return Finding(subject, Verdict.WARNING, str(quiesce.reason))
    count = _file_systems(conf, guest)
    if count is None:
        return Finding(subject, Verdict.SUCCESS, 'it answers')
    if count:
        return Finding(
            subject,
            Verdict.SUCCESS,
            f'it answers; file systems on disks: {count}',
        )
    nothing = Words.NOTHING_TO_FREEZE.value
    if plan.quiesce_required:
        refusal = exception.QuiesceFailed(domain=guest.name, reason=nothing)
        return Finding(subject, Verdict.FAILURE, str(refusal))
    return Finding(subject, Verdict.WARNING, nothing)


def _file_systems(conf: cfg.ConfigOpts, guest: Guest) -> int | None:
    """How many file systems the agent reports; None if it does not tell.

    A snapshot does not ask for them: the freeze itself counts.
    """
    try:
        with guest.agent.response_timeout(conf.snapshot.quiesce_timeout):
            return guest.agent.count_file_systems()
    except exception.HypervisorError:
        return None


def _space(conf: cfg.ConfigOpts, guest: Guest, plan: Plan) -> str:
    root = conf.libvirt.snapshots_directory
    place = directories.existing(root)
    needs = space.needs(
        guest, plan, place, None if plan.stream else Place(place)
    )
    require_space(guest.name, needs)
    needed = sum(need.size for need in needs)
    found = [f'up to {-(-needed // MIB)} MiB of {root}'] if needed else []
    if plan.method is Method.BACKUP:
        scratch = directories.existing(
            backup.scratch_place(read_settings(conf).capture).directory
        )
        require_space(
            guest.name,
            [backup.scratch_need(read_settings(conf).capture, scratch)],
        )
        found.append(f'what the guest overwrites meanwhile, in {scratch}')
    return ', and '.join(found) or 'none is needed'
