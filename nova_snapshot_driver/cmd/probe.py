# SPDX-License-Identifier: Apache-2.0
"""A small image that goes the way of a snapshot's."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cmd import cloud
from nova_snapshot_driver.cmd import directories
from nova_snapshot_driver.cmd.finding import Finding
from nova_snapshot_driver.cmd.finding import look
from nova_snapshot_driver.cmd.service_user import ServiceUser
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.glance import Glance
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.progress import silent
from nova_snapshot_driver.transfer import libnbd
from nova_snapshot_driver.transfer import process
from nova_snapshot_driver.transfer.process import Limits
from nova_snapshot_driver.workspace import MIB
from nova_snapshot_driver.workspace import Workspace

SIZE = 1 * MIB

#: The status of an answer to somebody who is known, and not wanted.
FORBIDDEN = 403


def findings(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    service_user: ServiceUser,
    cancellation: Cancellation,
) -> Iterator[Finding]:
    """How it fares: in the data plane, and in Glance.

    To Glance it goes as the arguments or the environment say, else as Nova
    goes there, if that is configured.
    """
    place = directories.existing(conf.libvirt.snapshots_directory)
    with contextlib.ExitStack() as stack:
        try:
            workspace = stack.enter_context(Workspace.open(place, 'check'))
        except exception.DirectoryUnusable:
            yield Finding(
                'Data plane', 'note', 'not tried without a directory'
            )
            return
        probe = Probe(workspace, conf, cancellation)
        yield look('Data plane', probe.extract)
        yield _stream(probe)
        if service_user.is_configured and not cloud.is_named(arguments):
            yield from _as_service_user(probe, service_user)
        else:
            yield _as_somebody(probe, arguments, conf)


def _stream(probe: Probe) -> Finding:
    if not libnbd.is_available():
        return Finding(
            'Data plane: streams',
            'note',
            'libnbd is missing. Images are written on this host before they '
            'are uploaded. Install the package python3-libnbd, for the '
            'Python that the driver runs on.',
        )
    return look('Data plane: streams', probe.stream)


def _as_somebody(
    probe: Probe, arguments: argparse.Namespace, conf: cfg.ConfigOpts
) -> Finding:
    try:
        context = cloud.of(arguments, conf)
    except exception.NoCloud as error:
        return Finding('Glance', 'note', str(error))
    return look('Glance', lambda: probe.upload(context.glance_access()))


def _as_service_user(
    probe: Probe, service_user: ServiceUser
) -> Iterator[Finding]:
    try:
        accesses = service_user.glance_accesses()
    except exception.KeystoneUnavailable as error:
        yield Finding('Glance', 'bad', str(error))
        return
    for access in accesses:
        several = f' {access.endpoint}' if len(accesses) > 1 else ''
        yield _upload(f'Glance{several}', probe, access)


def _upload(subject: str, probe: Probe, access: GlanceAccess) -> Finding:
    try:
        return Finding(subject, 'ok', probe.upload(access))
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        if getattr(error.__cause__, 'code', None) != FORBIDDEN:
            return Finding(subject, 'bad', str(error))
        return Finding(
            subject,
            'note',
            f'{str(error).rstrip(".")}. That is not in the way of a '
            'snapshot: nova-compute uploads as the user who wants it.',
        )


class Probe:
    """An image of 1 MiB."""

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
        """Make it, out of something else."""
        view = self._workspace.file('view')
        with open(view, 'wb') as file:
            file.write(os.urandom(SIZE))
        process.extract(
            Layer(view, 'raw'),
            Layer(self._image, 'qcow2'),
            Encoding('qcow2'),
            self._conf.snapshot.extract_timeout,
            Limits.of(self._conf),
            silent,
            self._cancellation,
        )
        return 'an image of 1 MiB was converted'

    def stream(self) -> str:
        """Make it in one pass, as it would go to Glance."""
        with process.started('save', Limits.of(self._conf)) as data_plane:
            process.save(
                data_plane,
                Layer(self._image, 'qcow2'),
                Encoding('qcow2'),
                self._workspace.file('streamed'),
                self._conf.snapshot.extract_timeout,
                silent,
                self._cancellation,
            )
        return 'an image of 1 MiB was made in one pass'

    def upload(self, access: GlanceAccess) -> str:
        """Send it to Glance, and see that nothing of it stays there."""
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
                lambda: access,
                self._conf.glance.num_retries,
                self._conf.snapshot.upload_timeout,
                Limits.of(self._conf),
                silent,
                self._cancellation,
            )
        finally:
            glance.delete(image.id)
        return f'{access.endpoint}, an image was uploaded, proven and deleted'
