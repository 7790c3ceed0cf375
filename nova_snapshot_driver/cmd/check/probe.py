# SPDX-License-Identifier: Apache-2.0
"""A small image that is made and sent as the image of a snapshot is."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.cmd.check import directories
from nova_snapshot_driver.cmd.check import libraries
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.finding import look
from nova_snapshot_driver.cmd.check.service_user import ServiceUser
from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.conf import read_settings
from nova_snapshot_driver.snapshot.settings import Settings
from nova_snapshot_driver.state.workspace import MIB
from nova_snapshot_driver.state.workspace import Workspace
from nova_snapshot_driver.transfer import data_plane
from nova_snapshot_driver.transfer.data_plane import Limits
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.nbd import libnbd

SIZE = 1 * MIB

#: The status of an answer to a user who is known, but lacks the right.
FORBIDDEN = 403


def findings(
    arguments: argparse.Namespace,
    conf: cfg.ConfigOpts,
    service_user: ServiceUser,
    streams_of_nova: Finding | None,
    cancellation: Cancellation,
) -> Iterator[Finding]:
    """The findings about a probe, in the data plane and in Glance.

    The arguments or the environment say where Glance is, else Nova's own
    configuration, if there is one.

    :param streams_of_nova: the finding on libnbd for nova-compute's Python, if
        that is not the one of this command
    """
    place = directories.existing(conf.libvirt.snapshots_directory)
    with contextlib.ExitStack() as stack:
        try:
            workspace = stack.enter_context(Workspace.open(place, 'check'))
        except exception.DirectoryUnusable as error:
            for subject in ('Data plane', libraries.STREAMS, 'Glance'):
                yield Finding(
                    subject,
                    Verdict.WARNING,
                    f'{NOT_KNOWN} nothing was tried, for want of a directory '
                    f'to write to: {error}',
                )
            return
        probe = Probe(workspace, read_settings(conf), cancellation)
        yield look('Data plane', probe.extract)
        yield _stream(probe, streams_of_nova)
        if service_user.is_configured and not cloud.is_named(arguments):
            yield from _as_service_user(probe, service_user)
        else:
            yield _as_somebody(probe, arguments, conf)


def _stream(probe: Probe, of_nova: Finding | None) -> Finding:
    """Whether images are made in one pass.

    :param of_nova: the finding on nova-compute's Python, if that is another;
        what this command tries on its own is only an addition
    """
    own = _own_stream(probe)
    if of_nova is None or own.verdict is Verdict.FAILURE:
        return own
    addition = (
        f'{own.detail} by this command'
        if own.verdict is Verdict.SUCCESS
        else 'this command has no libnbd to try it with'
    )
    return dataclasses.replace(
        of_nova, detail=f'{of_nova.detail.rstrip(".")}; {addition}'
    )


def _own_stream(probe: Probe) -> Finding:
    if other := libnbd.of_another_python():
        trouble = libraries.libnbd_of_another(
            other, sys.implementation.cache_tag
        )
    elif not libnbd.is_available():
        trouble = libraries.LIBNBD_MISSING
    else:
        return look(libraries.STREAMS, probe.stream)
    return Finding(libraries.STREAMS, Verdict.WARNING, trouble)


def _as_somebody(
    probe: Probe, arguments: argparse.Namespace, conf: cfg.ConfigOpts
) -> Finding:
    try:
        context = cloud.of(arguments, conf)
    except exception.NoCloud as error:
        return Finding('Glance', Verdict.WARNING, f'{NOT_KNOWN} {error}')
    except exception.CloudUnavailable as error:
        return Finding('Glance', Verdict.FAILURE, str(error))
    return look('Glance', lambda: probe.upload(context.glance_access()))


def _as_service_user(
    probe: Probe, service_user: ServiceUser
) -> Iterator[Finding]:
    try:
        accesses = service_user.glance_accesses()
    except exception.KeystoneUnavailable as error:
        yield Finding('Glance', Verdict.FAILURE, str(error))
        return
    for access in accesses:
        several = f' {access.endpoint}' if len(accesses) > 1 else ''
        yield _upload(f'Glance{several}', probe, access)


def _upload(subject: str, probe: Probe, access: GlanceAccess) -> Finding:
    try:
        return Finding(subject, Verdict.SUCCESS, probe.upload(access))
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        if getattr(error.__cause__, 'code', None) != FORBIDDEN:
            return Finding(subject, Verdict.FAILURE, str(error))
        return Finding(
            subject,
            Verdict.WARNING,
            f'{str(error).rstrip(".")}. That is not in the way of a '
            'snapshot: nova-compute uploads as the user who wants it.',
        )


class Probe:
    """An image of 1 MiB."""

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        cancellation: Cancellation,
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._cancellation = cancellation
        self._image = workspace.file('image')

    def extract(self) -> str:
        """Convert an image with qemu-img."""
        view = self._workspace.file('view')
        with open(view, 'wb') as file:
            file.write(os.urandom(SIZE))
        data_plane.run(
            Extract(Layer(view, 'raw'), Encoding('qcow2'), self._image),
            Limits.of(self._settings.transfer, Extract),
            silent,
            self._cancellation,
        )
        return 'an image of 1 MiB was converted'

    def stream(self) -> str:
        """Make it in one pass, as it would go to Glance."""
        data_plane.run(
            Save(
                Layer(self._image, 'qcow2'),
                Encoding('qcow2'),
                self._workspace.file('streamed'),
                self._workspace.path,
            ),
            Limits.of(self._settings.transfer, Save),
            silent,
            self._cancellation,
        )
        return 'an image of 1 MiB was made in one pass'

    def upload(self, access: GlanceAccess) -> str:
        """Send the image to Glance, and delete it there."""
        glance = Glance(access)
        image = glance.create(
            name='nova-snapshot-check',
            disk_format='qcow2',
            container_format='bare',
            visibility='private',
        )
        try:
            data_plane.run(
                Upload(
                    self._image,
                    image.id,
                    access.files,
                    self._settings.destination.retries,
                ),
                Limits.of(self._settings.transfer, Upload),
                silent,
                self._cancellation,
                lambda: access,
            )
        finally:
            glance.delete(image.id)
        return f'{access.endpoint}, an image was uploaded, proven and deleted'
