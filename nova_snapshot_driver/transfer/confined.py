# SPDX-License-Identifier: Apache-2.0
"""The part of the host that a job of the data plane can access.

A guest that has broken out of its QEMU may send anything to a job, and the
header of an image may lead QEMU's tools anywhere. A job that falls for them
must not reach the rest of the host.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading

import nova_snapshot_driver
from nova_snapshot_driver.common import confinement
from nova_snapshot_driver.common import landlock
from nova_snapshot_driver.common.confinement import Capability
from nova_snapshot_driver.common.view import Export
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.common.view import View
from nova_snapshot_driver.common.view import Volume
from nova_snapshot_driver.transfer.jobs.job import AnyJob
from nova_snapshot_driver.transfer.jobs.job import Extract
from nova_snapshot_driver.transfer.jobs.job import Flatten
from nova_snapshot_driver.transfer.jobs.job import Hash
from nova_snapshot_driver.transfer.jobs.job import Increment
from nova_snapshot_driver.transfer.jobs.job import Restore
from nova_snapshot_driver.transfer.jobs.job import Save
from nova_snapshot_driver.transfer.jobs.job import Stream
from nova_snapshot_driver.transfer.jobs.job import Update
from nova_snapshot_driver.transfer.jobs.job import Upload
from nova_snapshot_driver.transfer.jobs.job import Verify
from nova_snapshot_driver.transfer.jobs.job_fields import Base

#: The jobs that have a directory of their own.
Staging = Hash | Increment | Restore | Save | Stream | Update | Verify

#: The jobs whose images are all named by the job. The header of one may still
#: name another file, such as an "external data file".
Closed = Hash | Restore | Verify

#: The limit of a process that encodes and sends: its data in bytes, with the
#: stacks of its threads. Snapshots have needed up to 60 MiB, for any disk and
#: encoding; the rest is for a million holes in a disk.
MEMORY = 192 << 20

#: The stack of a thread in bytes, whatever the limits of a shell are.
STACK = 1 << 20

#: The limit of QEMU's tools and of Ceph's.
MEMORY_OF_TOOLS = 4 << 30

#: Files of the host that Python, the resolver and TLS read.
SYSTEM = (
    *('/usr', '/lib', '/lib64', '/bin', '/sbin'),
    *('/dev/null', '/dev/urandom', '/proc/self', '/proc/sys/crypto'),
    '/sys/devices/system/cpu',
    *('/etc/ssl', '/etc/pki', '/etc/ca-certificates', '/etc/gnutls'),
    '/etc/crypto-policies',
    *('/etc/resolv.conf', '/etc/hosts', '/etc/nsswitch.conf'),
    *('/etc/host.conf', '/etc/gai.conf', '/etc/services'),
    *('/etc/localtime', '/etc/ld.so.cache', '/run/systemd/resolve'),
)

#: Where the clients of Ceph find what no option says.
CEPH = ('/etc/ceph', '/proc')

#: The variables that name certificates.
CERTIFICATES = (
    *('SSL_CERT_FILE', 'SSL_CERT_DIR'),
    *('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'),
)


def at_the_start() -> None:
    """Give up the rights that no job needs.

    Root keeps the right to use files of other users.
    """
    confinement.give_up(keep={Capability.DAC_OVERRIDE})
    threading.stack_size(STACK)


def to(job: AnyJob) -> bool:
    """Restrict this process to the files and the memory of its job.

    The restriction holds for its tools as well. A tool that reads an image
    learns the backing files from the image: such a job may read all that its
    user may.

    :returns: whether the kernel restricts the access to files
    """
    # Extract and Flatten leave the data to a tool.
    is_by_tool = isinstance(job, Extract | Flatten)
    view = _view(job)
    has_tool = (
        is_by_tool or isinstance(view, Layer) or _volume(job, view) is not None
    )
    if isinstance(job, Staging):
        # Data of the job that do not fit into memory go to its directory.
        tempfile.tempdir = job.directory
    confinement.limit_memory(
        MEMORY_OF_TOOLS if is_by_tool else MEMORY,
        MEMORY_OF_TOOLS if has_tool else MEMORY,
    )
    # Ceph's commands read and write where their configuration says.
    if isinstance(job, Flatten):
        return False
    reads_by_name = not isinstance(view, Layer) or isinstance(job, Closed)
    return landlock.restrict(
        _readable(job, view) if reads_by_name else None, _writable(job)
    )


def _view(job: AnyJob) -> View | None:
    """The view that a job reads; None where it reads a file, or nothing."""
    return None if isinstance(job, Flatten | Upload) else job.view


def _volume(job: AnyJob, view: View | None) -> Volume | None:
    """The volume that QEMU's tools read or write for a job, if any."""
    if isinstance(job, Update):
        return job.volume
    return view if isinstance(view, Volume) else None


def _layers(view: View | None) -> list[str]:
    """The files of a view; none for an export."""
    paths = []
    while isinstance(view, Layer):
        paths.append(view.path)
        view = view.backing
    return paths


def _readable(job: AnyJob, view: View | None) -> list[str]:
    files = [os.environ.get(name, '') for name in CERTIFICATES]
    return [
        *SYSTEM,
        *(sys.prefix, sys.base_prefix, sys.exec_prefix),
        *(entry for entry in sys.path if os.path.isabs(entry)),
        *nova_snapshot_driver.__path__,
        *filter(None, files),
        *(os.get_exec_path() if isinstance(job, Extract | Closed) else []),
        *_of_ceph(_volume(job, view)),
        *(job.files if isinstance(job, Stream | Upload) else []),
        # The command line of the NBD server; the kernel keeps what is private
        # of other processes from this one.
        *(['/proc'] if isinstance(view, Export) else []),
        *([job.path] if isinstance(job, Upload) else []),
        *(_layers(view) if isinstance(job, Closed) else []),
        *_leaves(job),
    ]


def _of_ceph(volume: Volume | None) -> list[str]:
    """The files that QEMU's tools read for a volume in Ceph.

    The keyring lies beside the configuration, unless a key is given.
    """
    if volume is None:
        return []
    return [
        *os.get_exec_path(),
        *CEPH,
        *filter(None, [os.path.dirname(volume.conf)]),
    ]


def _leaves(job: AnyJob) -> list[str]:
    """The files with leaves that a job reads."""
    match job:
        case (
            Increment(base=Base(leaves=path)) | Update(base=Base(leaves=path))
        ):
            return [path]
        case Restore(leaves=path):
            return [path]
        case Verify(leaves=path, base_leaves=base):
            return [path, *filter(None, [base])]
    return []


def _writable(job: AnyJob) -> list[str]:
    return [
        '/dev/null',
        *([job.directory] if isinstance(job, Staging) else []),
        *(
            [os.path.dirname(job.path)]
            if isinstance(job, Extract | Increment | Restore | Save)
            else []
        ),
        *(
            [os.path.dirname(job.leaves)]
            if isinstance(job, Hash | Increment | Update)
            else []
        ),
    ]
