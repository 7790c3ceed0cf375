# SPDX-License-Identifier: Apache-2.0
"""Snapshots that stand still where a test wants them to."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import sqlite3
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import TypeVar

import libvirt
from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image

from lab.bounded import wait_until
from lab.cloud.configuration import Overrides
from lab.errors import LabError
from lab.proxy import FaultyProxy
from lab.proxy import Slow
from tests import processes
from tests.openstack import base

MIB = 1 << 20

#: Seconds until a snapshot that was asked for has come to some phase.
PHASE_TIMEOUT = 120

#: Seconds for which others may have a database locked.
DATABASE_TIMEOUT = 30

#: MiB of zeros, which take their time in a live copy, and no room in an
#: image.
COPIED = 384

#: Bytes a second. Neither a live copy nor an upload ends with it in a test.
TRICKLE = 256 * 1024

_Started = TypeVar('_Started')


#: Options of a nova-compute that copies disks, for the phases below.
COPYING: Overrides = {('snapshot', 'method'): 'mirror'}


class Phase(enum.StrEnum):
    """Where a snapshot is.

    Only the first one is met by a snapshot of an active server that is taken
    with the options that nova-compute has by default.
    """

    #: a backup job shows the disk of the running guest, and the image is
    #: uploaded while it is read
    STREAM = 'stream'
    #: the disk of the running guest is copied, the domain is transient
    MIRROR = 'mirror'
    #: ``qemu-img convert`` runs
    EXTRACT = 'extract'
    #: the converted image is uploaded
    UPLOAD = 'upload'


class HeldTest(base.CloudTest):
    """Tests that hold snapshots."""

    proxy: ClassVar[FaultyProxy]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.proxy = base.glance_proxy()

    @classmethod
    def boot_several(cls, number: int) -> list[Server]:
        """Servers that are deleted after the last test."""

        def boot(_number: int) -> Server:
            # A boot may fail; the next servers are tried all the same.
            server = cls.boot()
            cls.addClassCleanup(cls.delete, server)
            return server

        with futures.ThreadPoolExecutor() as pool:
            return list(pool.map(boot, range(number)))

    def setUp(self) -> None:
        super().setUp()
        self._further: Overrides = {}
        # An earlier test's server is of no interest any more.
        self.proxy.heal()
        self.addCleanup(self.proxy.heal)

    def configure(self, overrides: Overrides) -> None:
        """Give nova-compute further options until the end of the test.

        :param overrides: ``{}`` takes them away before that
        """
        self.addCleanup(self._configure, {})
        self._configure(overrides)
        # How it has ended is not what the test is about.
        self.log = self.cloud.log('nova-compute')

    def _configure(self, overrides: Overrides) -> None:
        if overrides != self._further:
            self._further = overrides
            self.cloud.configure_compute({**self.overrides(), **overrides})

    # Snapshots

    @contextlib.contextmanager
    def held(self, phase: Phase, server: Server) -> Iterator[Image]:
        """A snapshot that has come to a phase, and does not leave it inside.

        It goes on afterwards.
        """
        with self.started_and_held(
            phase, server, lambda: self.ask_for_snapshot(server)
        ) as image:
            yield image

    @contextlib.contextmanager
    def started_and_held(
        self, phase: Phase, server: Server, start: Callable[[], _Started]
    ) -> Iterator[_Started]:
        """Hold a snapshot that anybody starts.

        :param start: starts it, and does not wait for it
        """
        if phase is Phase.MIRROR:
            self.make_copy_long(server)
        uploads = len(self.proxy.uploads)
        if phase in (Phase.STREAM, Phase.UPLOAD):
            self.proxy.inject(Slow(TRICKLE))
        started = start()
        with contextlib.ExitStack() as stack:
            match phase:
                case Phase.MIRROR:
                    stack.enter_context(self._copy_held(server))
                case Phase.EXTRACT:
                    stack.enter_context(_process_held(self.data_plane))
                case Phase.STREAM | Phase.UPLOAD:
                    stack.callback(self.proxy.heal)
                    self.wait_for_upload(uploads)
                    self.assertEqual(
                        phase is Phase.STREAM, self.is_backed_up(server)
                    )
            yield started

    def is_backed_up(self, server: Server) -> bool:
        """Whether a backup job runs, of a domain that stays as it is."""
        with self.domain(server) as domain:
            job = domain.blockJobInfo('vda')
            return bool(
                job
                and job['type'] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP
                and domain.isPersistent()
            )

    def wait_for_upload(self, earlier: int = 0) -> None:
        """Wait until data of a new upload have come.

        :param earlier: how many uploads there were
        """
        wait_until(
            lambda: (
                len(self.proxy.uploads) > earlier
                and self.proxy.uploads[-1].size > 0
            ),
            'an upload',
            PHASE_TIMEOUT,
        )

    def wait_until_saving(self, image: Image) -> None:
        wait_until(
            lambda: self.demo.image.get_image(image.id).status == 'saving',
            'Glance to take the image',
            PHASE_TIMEOUT,
            0.2,
        )

    def make_copy_long(self, server: Server) -> None:
        """Have the guest write enough to be met while it is copied."""
        self.wait_for_agent(server)
        self.run_in_guest(
            server,
            '[ -e /data/zeros ] || '
            f'dd if=/dev/zero of=/data/zeros bs=1M count={COPIED} && sync',
        )

    @contextlib.contextmanager
    def _copy_held(self, server: Server) -> Iterator[None]:
        with self.domain(server) as domain:
            limit_copy(domain, TRICKLE)
            try:
                yield
            finally:
                # The copy, or the whole domain, may be gone.
                with contextlib.suppress(libvirt.libvirtError):
                    domain.blockJobSetSpeed('vda', 0)

    def data_plane(self) -> list[int]:
        """The processes of nova-compute's data plane."""
        return processes.children(self.cloud.compute.pid, processes.DATA_PLANE)

    def wait_for_failure(self, server: Server, image: Image) -> Server:
        """Wait for a snapshot to have failed, with its image gone."""
        self.wait_until_gone(image)
        return self.wait_for_no_task(server.id)

    def fault_of(self, server: Server) -> str:
        """Why something that was done to a server has failed last.

        Nova's API says it of servers in error alone.

        :returns: the message, and the traceback
        """
        with contextlib.closing(
            sqlite3.connect(
                self.cloud.directory / 'var/databases/nova.sqlite',
                timeout=DATABASE_TIMEOUT,
            )
        ) as database:
            faults = database.execute(
                'SELECT message, details FROM instance_faults '
                'WHERE instance_uuid = ? ORDER BY id',
                (server.id,),
            ).fetchall()
        return '\n'.join(map(str, faults[-1])) if faults else ''

    # The remains of a snapshot

    def assert_nothing_is_left(self, server: Server, image: Image) -> None:
        """Nothing is left of a deleted server, nor of its snapshot."""
        self.wait_until_gone(image)
        wait_until(lambda: not self.data_plane(), 'the data plane to end', 30)
        with self.hypervisor() as connection:
            domains = [
                domain.UUIDString() for domain in connection.listAllDomains()
            ]
        self.assertNotIn(server.id, domains)
        self.assertEqual([], self.files_of(server))

    def files_of(self, server: Server) -> list[str]:
        """The driver's files on the host for a server, but for its lock."""
        return [
            str(path)
            for directory in (
                self.directories.snapshots,
                self.directories.state,
            )
            for path in Path(directory).glob(f'{server.id}*')
            if path.suffix != '.lock'
        ]

    def assert_calm(self) -> None:
        """nova-compute has complained of nothing."""
        # Of Placement it does at times, when servers come and go.
        self.assertEqual(
            [],
            self.log.grep(
                r'^\S+ \S+ \d+ (ERROR|CRITICAL) (?!nova\.scheduler\.client)'
            ),
        )


def limit_copy(domain: Any, rate: int) -> None:
    """Wait until the root disk is being copied, and slow that down.

    :param rate: bytes a second
    :raises LabError: it was too quick
    """
    wait_until(
        lambda: bool(domain.blockJobInfo('vda')),
        f'{domain.name()} to be copied',
        PHASE_TIMEOUT,
        interval=0.002,
    )
    domain.blockJobSetSpeed(
        'vda', rate, libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES
    )
    job = domain.blockJobInfo('vda')
    if not job or job['end'] - job['cur'] < 64 * MIB:
        raise LabError(f'the copy of {domain.name()} is too far: {job}')


@contextlib.contextmanager
def _process_held(find: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Stop the next data plane, with its children."""
    found: list[int] = []

    def started() -> bool:
        found[:] = find()
        return bool(found)

    wait_until(started, 'a process of the data plane', PHASE_TIMEOUT, 0.01)
    os.killpg(found[0], signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(found[0], signal.SIGCONT)
