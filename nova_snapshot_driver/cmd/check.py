# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot check``: can this host take snapshots?"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cmd import cloud
from nova_snapshot_driver.cmd import output
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.driver import temporary_bytes
from nova_snapshot_driver.guest import Guest
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.image import Glance
from nova_snapshot_driver.instance import Instance
from nova_snapshot_driver.journal import Journal
from nova_snapshot_driver.plan import Plan
from nova_snapshot_driver.plan import make_plan
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.quiesce import Quiesce
from nova_snapshot_driver.transfer import process
from nova_snapshot_driver.workspace import MIB
from nova_snapshot_driver.workspace import Workspace
from nova_snapshot_driver.workspace import free_bytes
from nova_snapshot_driver.workspace import require_space

#: As Nova 34 demands (``MIN_LIBVIRT_VERSION``, ``MIN_QEMU_VERSION``).
MIN_LIBVIRT_VERSION = 8_000_000
MIN_QEMU_VERSION = 6_002_000

#: Of the image that is made to try things with, in bytes.
PROBE_SIZE = 1 * MIB


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar verdict: ``ok``, ``note`` for what a person may want to know, or
        ``bad`` for what stands in the way of a snapshot
    :ivar detail: what was found, or what is wrong and what to do
    """

    subject: str
    verdict: str
    detail: str


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
    root = conf.libvirt.snapshots_directory
    yield _look('State directory', lambda: _state_directory(conf))
    yield _look('Snapshots directory', lambda: _snapshots_directory(root))
    with contextlib.ExitStack() as stack:
        try:
            probe = _Probe(
                stack.enter_context(Workspace.open(root, 'check')),
                conf,
                cancellation,
            )
            yield _look('Data plane', probe.extract)
            yield _glance(arguments, conf, probe)
        except exception.DirectoryUnusable:
            yield Finding(
                'Data plane', 'note', 'not tried without a directory'
            )
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(Host.open(conf.libvirt.connection_uri))
        except exception.ConnectionFailed as error:
            yield Finding('libvirt', 'bad', str(error))
            return
        yield _look(
            'libvirt',
            lambda: _recent(host.libvirt_version(), MIN_LIBVIRT_VERSION),
        )
        yield _look(
            'QEMU', lambda: _recent(host.qemu_version(), MIN_QEMU_VERSION)
        )
        for domain in arguments.domains:
            yield from _domain(conf, host, domain)


def _look(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, 'ok', check())
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        return Finding(subject, 'bad', str(error))


def _state_directory(conf: cfg.ConfigOpts) -> str:
    directory: str = conf.snapshot.state_directory
    Journal(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise exception.DirectoryUnusable(
            directory=directory,
            reason='it cannot be written',
            option='[snapshot] state_directory',
        )
    return directory


def _snapshots_directory(root: str) -> str:
    with Workspace.open(root, 'check'):
        return f'{root}, {free_bytes(root) // MIB} MiB free'


class _Probe:
    """A small image that goes the way of a snapshot's."""

    def __init__(
        self,
        workspace: Workspace,
        conf: cfg.ConfigOpts,
        cancellation: Cancellation,
    ) -> None:
        self._workspace = workspace
        self._conf = conf
        self._cancellation = cancellation
        self._image = workspace.file('image')

    def extract(self) -> str:
        view = self._workspace.file('view')
        with open(view, 'wb') as file:
            file.write(os.urandom(PROBE_SIZE))
        process.extract(
            Layer(view, 'raw'),
            Layer(self._image, 'qcow2'),
            False,
            self._conf.snapshot.extract_timeout,
            silent,
            self._cancellation,
        )
        return 'an image of 1 MiB was converted'

    def upload(self, context: cloud.BareGlance | cloud.Cloud) -> str:
        access = context.glance_access()
        glance = Glance(access)
        image = glance.create(
            name='nova-snapshot-check',
            disk_format='qcow2',
            container_format='bare',
            visibility='private',
        )
        try:
            process.upload(
                self._image,
                image.id,
                access,
                self._conf.glance.num_retries,
                self._conf.snapshot.upload_timeout,
                silent,
                self._cancellation,
            )
        finally:
            glance.delete(image.id)
        return f'{access.endpoint}, an image was uploaded, proven and deleted'


def _glance(
    arguments: argparse.Namespace, conf: cfg.ConfigOpts, probe: _Probe
) -> Finding:
    try:
        context = cloud.of(arguments, conf)
    except exception.NoCloud as error:
        return Finding('Glance', 'note', str(error))
    return _look('Glance', lambda: probe.upload(context))


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
        plan = make_plan(
            conf, Instance(name), guest.describe(), guest.power_state()
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
        if plan.freeze:
            yield _agent(conf, guest, subject, plan)
        yield _look(f'{subject}: space', lambda: _space(conf, guest, plan))
    except exception.SnapshotError as error:
        yield Finding(subject, 'bad', str(error))


def _agent(
    conf: cfg.ConfigOpts, guest: Guest, subject: str, plan: Plan
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
    needed = sum(temporary_bytes(guest, plan))
    require_space(guest.name, [(root, needed)])
    return f'up to {-(-needed // MIB)} MiB of {root}'
