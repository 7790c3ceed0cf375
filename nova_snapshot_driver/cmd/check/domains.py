# SPDX-License-Identifier: Apache-2.0
"""A domain that somebody wants to snapshot: its plan, its agent, its space."""

from __future__ import annotations

from collections.abc import Iterator

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.rbd import Ceph
from nova_snapshot_driver.cmd.check import directories
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.finding import look
from nova_snapshot_driver.cmd.shared import volume_backed
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
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.state.workspace import Place
from nova_snapshot_driver.state.workspace import require_space
from nova_snapshot_driver.takings import lost_agent


def findings(conf: cfg.ConfigOpts, host: Host, name: str) -> Iterator[Finding]:
    """The findings on a domain, which is not changed.

    :param name: the domain's name or its UUID
    """
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
