# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot check``: can this host take snapshots?"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver import space
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.capture import backup
from nova_snapshot_driver.cmd import api_paste
from nova_snapshot_driver.cmd import compute_driver
from nova_snapshot_driver.cmd import deployment
from nova_snapshot_driver.cmd import directories
from nova_snapshot_driver.cmd import nova_options
from nova_snapshot_driver.cmd import output
from nova_snapshot_driver.cmd import probe
from nova_snapshot_driver.cmd import volume_backed
from nova_snapshot_driver.cmd.finding import Finding
from nova_snapshot_driver.cmd.finding import look
from nova_snapshot_driver.cmd.interpreter import OPTION
from nova_snapshot_driver.cmd.nova_user import NovaUser
from nova_snapshot_driver.cmd.service_user import ServiceUser
from nova_snapshot_driver.domain import Domain
from nova_snapshot_driver.domain import RbdImage
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.plan import AnyPlan
from nova_snapshot_driver.plan import Path
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.plan import make_plan
from nova_snapshot_driver.plan import make_volumes_plan
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.rbd import Ceph
from nova_snapshot_driver.ways.disk import obstacles
from nova_snapshot_driver.workspace import MIB
from nova_snapshot_driver.workspace import require_space

#: As Nova 34 demands (``MIN_LIBVIRT_VERSION``, ``MIN_QEMU_VERSION``).
MIN_LIBVIRT_VERSION = 8_000_000
MIN_QEMU_VERSION = 6_002_000


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        'check',
        parents=[common],
        help='see whether this host can take snapshots',
        description='See whether this host can take snapshots, by doing '
        'everything on a small scale that a snapshot does. What stands in '
        'the way is named, with the remedy, and the exit status is 1.',
    )
    parser.add_argument(
        'domains',
        metavar='DOMAIN',
        nargs='*',
        help='a domain to plan a snapshot of, and to ask for its agent',
    )
    parser.add_argument(
        '--nova-python',
        metavar='PATH',
        help='the Python that nova-compute runs on (default: the one that '
        'the script nova-compute names)',
    )
    parser.set_defaults(run=run, overrides=lambda _arguments: [])


def run(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> int:
    findings = list(_findings(arguments, conf, cancellation))
    if arguments.format == 'json':
        output.print_json([dataclasses.asdict(found) for found in findings])
    else:
        output.print_verdicts(
            (found.subject, found.verdict, found.detail) for found in findings
        )
    return int(any(found.verdict == 'bad' for found in findings))


def _findings(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    cancellation: Cancellation,
) -> Iterator[Finding]:
    options = nova_options.load(conf)
    service_user = ServiceUser(options, conf.glance.timeout)
    user = NovaUser.find(conf)
    yield from _nova(
        arguments, conf, options, user, service_user, cancellation
    )
    yield from api_paste.findings(
        options.wsgi.api_paste_config, conf.config_file
    )
    yield from _directories(conf, user)
    if conf.snapshot.metrics_file is not None:
        yield look(
            'Metrics',
            lambda: directories.metrics(conf.snapshot.metrics_file, user),
        )
    yield from probe.findings(arguments, conf, service_user, cancellation)
    yield from _host(arguments.domains, conf)


def _nova(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    options: cfg.ConfigOpts,
    user: NovaUser,
    service_user: ServiceUser,
    cancellation: Cancellation,
) -> Iterator[Finding]:
    driver = options.compute_driver
    found = deployment.findings(
        arguments.nova_python,
        compute_driver.is_meant(driver),
        user,
        cancellation,
    )
    if not found:
        yield Finding(
            'Nova',
            'note',
            'There is none to be found, and this command needs none. If '
            f'nova-compute has an environment of its own: {OPTION}',
        )
        return
    yield compute_driver.finding(driver, conf.config_file)
    yield from found
    yield from nova_options.findings(conf, options)
    yield from service_user.findings()


def _directories(conf: cfg.ConfigOpts, user: NovaUser) -> Iterator[Finding]:
    if user.is_somebody_else:
        yield user.finding(conf.config_file)
    for subject, see, path in (
        (
            'State directory',
            directories.state,
            conf.snapshot.state_directory,
        ),
        (
            'Snapshots directory',
            directories.snapshots,
            conf.libvirt.snapshots_directory,
        ),
    ):
        yield look(subject, functools.partial(see, path, user))


def _host(domains: list[str], conf: cfg.ConfigOpts) -> Iterator[Finding]:
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(Host.open(conf.libvirt.connection_uri))
        except exception.ConnectionFailed as error:
            yield Finding('libvirt', 'bad', str(error))
            return
        yield look(
            'libvirt',
            lambda: _recent(host.libvirt_version(), MIN_LIBVIRT_VERSION),
        )
        yield look(
            'QEMU', lambda: _recent(host.qemu_version(), MIN_QEMU_VERSION)
        )
        for domain in domains:
            yield from _domain(conf, host, domain)


def _recent(found: int, least: int) -> str:
    if found < least:
        raise exception.TooOld(found=_dotted(found), least=_dotted(least))
    return _dotted(found)


def _dotted(version: int) -> str:
    return f'{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}'


def _domain(conf: cfg.ConfigOpts, host: Host, name: str) -> Iterator[Finding]:
    subject = f'Domain {name}'
    try:
        guest = host.guest(name)
        domain = guest.describe()
        if volume_backed.root_volume(domain):
            yield from _volumes(conf, guest, domain, subject)
            return
        plan = make_plan(
            conf,
            Instance(name),
            domain,
            guest.power_state(),
            obstacles(),
        )
        yield Finding(subject, 'ok', str(plan))
        job = guest.block_job(plan.disk) if guest.is_active() else None
        if job:
            yield Finding(
                f'{subject}: block job',
                'bad',
                f'a {job} job runs on {plan.disk.target}; a snapshot is '
                'refused until it has ended, unless a dead snapshot left it.',
            )
        if plan.path is Path.DIRECT and plan.disk.rbd:
            yield _ceph(conf, subject, plan.disk.rbd)
        if plan.freeze:
            yield _agent(conf, guest, subject, plan)
        yield look(f'{subject}: space', lambda: _space(conf, guest, plan))
    except exception.SnapshotError as error:
        yield Finding(subject, 'bad', str(error))


def _volumes(
    conf: cfg.ConfigOpts, guest: Guest, domain: Domain, subject: str
) -> Iterator[Finding]:
    """Of a domain whose root disk is a volume: it needs no space here."""
    plan = make_volumes_plan(
        conf,
        Instance(guest.name),
        domain,
        guest.power_state(),
        len(volume_backed.volumes_of(domain)),
    )
    yield Finding(subject, 'ok', str(plan))
    if plan.freeze:
        yield _agent(conf, guest, subject, plan)


def _ceph(conf: cfg.ConfigOpts, subject: str, disk: RbdImage) -> Finding:
    subject = f'{subject}: Ceph'
    ceph = Ceph(conf, disk.user)
    try:
        ceph.cluster()
        parent = ceph.parent(disk)
    except (exception.CephError, exception.CommandMissing) as error:
        return Finding(subject, 'note', f'the image is streamed: {error}')
    if parent is None:
        return Finding(
            subject,
            'note',
            f'{disk} is no clone. Where Glance does not show the location of '
            'the image that it was made from, it is streamed.',
        )
    return Finding(
        subject, 'ok', f'{disk} is cloned into the pool {parent[0].pool}'
    )


def _agent(
    conf: cfg.ConfigOpts, guest: Guest, subject: str, plan: AnyPlan
) -> Finding:
    quiesce = Quiesce(
        guest,
        plan,
        conf.snapshot.quiesce_timeout,
        conf.snapshot.guest_timeout,
    )
    subject = f'{subject}: agent'
    try:
        quiesce.check()
    except exception.QuiesceFailed as error:
        return Finding(subject, 'bad', str(error))
    if not quiesce.possible:
        return Finding(subject, 'note', quiesce.reason)
    return Finding(subject, 'ok', 'it answers')


def _space(conf: cfg.ConfigOpts, guest: Guest, plan: Plan) -> str:
    root = conf.libvirt.snapshots_directory
    place = directories.existing(root)
    needs = space.needs(guest, plan, place, None if plan.stream else place)
    require_space(guest.name, needs)
    needed = sum(size for _directory, size in needs)
    found = [f'up to {-(-needed // MIB)} MiB of {root}'] if needed else []
    if plan.path is Path.BACKUP:
        scratch = directories.existing(backup.scratch_root(conf))
        reserve = conf.snapshot.scratch_reserve
        require_space(
            guest.name, [(scratch, reserve * MIB)], backup.SCRATCH_DIRECTORY
        )
        found.append(f'what the guest overwrites meanwhile, in {scratch}')
    return ', and '.join(found) or 'none is needed'
