# SPDX-License-Identifier: Apache-2.0
"""The disk image of the guest whose data proves a snapshot."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from lab.bootdisk import DATA_START
from lab.bootdisk import MIB
from lab.bootdisk import write_boot_disk
from lab.bounded import locked
from lab.bounded import run
from lab.directory import cache_directory
from lab.errors import LabError
from lab.initramfs import Initramfs
from lab.initramfs import busybox
from lab.packages import kernel_packages
from lab.packages import unpack

_SOURCES = Path(__file__).parent / 'witness'
_BUILDERS = ('bootdisk.py', 'initramfs.py', 'packages.py', 'witness.py')

_BUILD_TIMEOUT = 900
_COMMAND_TIMEOUT = 120


@dataclasses.dataclass(frozen=True)
class WitnessImage:
    """A built image, in the cache. Copy the files, never write to them.

    ``base.raw`` and ``base.qcow2`` have the same content, ``middle.qcow2``
    is an overlay on the latter with one more file in it.
    """

    directory: Path

    @classmethod
    def build(
        cls, size: int = 1024, base_fill: int = 64, middle_fill: int = 16
    ) -> Self:
        """Return the image of these sizes, built if the cache has none.

        Any number of processes may call it at once.

        :param size: of the disk, MiB
        :param base_fill: incompressible data in the base, MiB
        :param middle_fill: incompressible data in the middle layer, MiB
        :raises LabError: a package is missing, or a tool fails
        """
        sizes = (size, base_fill, middle_fill)
        key = _digest_of_sources(sizes)
        image = cls(cache_directory() / f'witness-{key}')
        if not image.directory.exists():
            with locked(image.directory.with_suffix('.lock'), _BUILD_TIMEOUT):
                if not image.directory.exists():
                    _build(image.directory, *sizes)
        return image

    @property
    def base_raw(self) -> Path:
        return self.directory / 'base.raw'

    @property
    def base_qcow2(self) -> Path:
        return self.directory / 'base.qcow2'

    @property
    def middle_qcow2(self) -> Path:
        return self.directory / 'middle.qcow2'

    @property
    def fills(self) -> dict[str, str]:
        """The SHA-256 of each fill by its name: ``base`` and ``middle``."""
        fills: dict[str, str] = json.loads(
            (self.directory / 'fills.json').read_text()
        )
        return fills

    def digest_of_fill(self, size: int, seed: int) -> str:
        """The SHA-256 of what ``witness fill`` writes.

        :param size: MiB
        """
        return _fill(self.directory / 'witness', size, seed, Path(os.devnull))


def _digest_of_sources(sizes: tuple[int, ...]) -> str:
    digest = hashlib.sha256(repr(sizes).encode())
    builders = [Path(__file__).with_name(name) for name in _BUILDERS]
    for source in sorted(_SOURCES.iterdir()) + builders:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _build(target: Path, size: int, base_fill: int, middle_fill: int) -> None:
    with contextlib.ExitStack() as stack:
        scratch = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix=f'{target.name}.', dir=target.parent
                )
            )
        )
        image = scratch / 'image'
        data = scratch / 'data'
        boot = scratch / 'boot'
        for directory in (image, data, boot):
            directory.mkdir()

        program = image / 'witness'
        run(
            ['gcc', '-O2', '-static', '-o', program, _SOURCES / 'witness.c'],
            timeout=_COMMAND_TIMEOUT,
        )
        _write_boot_files(boot, scratch, program)
        fills = {'base': _fill(program, base_fill, 1, data / 'base')}
        base = image / 'base.raw'
        write_boot_disk(base, size * MIB, sorted(boot.iterdir()), data)
        run(
            [
                *('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2'),
                *(base, image / 'base.qcow2'),
            ],
            timeout=_COMMAND_TIMEOUT,
        )

        content = scratch / 'content'
        fills['middle'] = _fill(program, middle_fill, 2, content)
        _write_middle(image, scratch / 'middle.raw', content)

        (image / 'fills.json').write_text(json.dumps(fills))
        image.rename(target)


def _write_middle(image: Path, scratch: Path, content: Path) -> None:
    run(
        ['cp', '--sparse=always', image / 'base.raw', scratch],
        timeout=_COMMAND_TIMEOUT,
    )
    run(
        [
            *('debugfs', '-w', '-R', f'write {content} middle'),
            f'{scratch}?offset={DATA_START}',
        ],
        timeout=_COMMAND_TIMEOUT,
    )
    run(
        [
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', scratch, '-F', 'raw', 'middle.qcow2'),
        ],
        directory=image,
        timeout=_COMMAND_TIMEOUT,
    )
    # A safe rebase copies what differs, which is what an overlay is.
    run(
        [
            *('qemu-img', 'rebase', '-f', 'qcow2'),
            *('-b', 'base.qcow2', '-F', 'qcow2', 'middle.qcow2'),
        ],
        directory=image,
        timeout=_COMMAND_TIMEOUT,
    )


def _write_boot_files(boot: Path, scratch: Path, program: Path) -> None:
    downloads = scratch / 'packages'
    downloads.mkdir()
    packages = unpack([*kernel_packages(), 'qemu-guest-agent'], downloads)
    initramfs = Initramfs()
    initramfs.add_file('bin/busybox', busybox().read_bytes())
    initramfs.add_file('bin/witness', program.read_bytes())
    initramfs.add_file('init', (_SOURCES / 'init').read_bytes())
    for script in ('agent', 'fsfreeze-hook', 'shutdown'):
        initramfs.add_file(f'sbin/{script}', (_SOURCES / script).read_bytes())
    # acpid runs what has the name of the event.
    initramfs.add_file(
        'etc/acpi/PWRF/00000080', (_SOURCES / 'shutdown').read_bytes()
    )
    initramfs.add_modules(packages)
    initramfs.add_program('sbin/qemu-ga', _find(packages, 'qemu-ga'))
    initramfs.write(boot / 'initrd')
    shutil.copy(_find(packages, 'vmlinuz-*'), boot / 'vmlinuz')
    shutil.copy(_SOURCES / 'syslinux.cfg', boot)


def _find(tree: Path, pattern: str) -> Path:
    for path in tree.rglob(pattern):
        if path.is_file():
            return path
    raise LabError(f'the packages in {tree} have no file {pattern}')


def _fill(program: Path, size: int, seed: int, target: Path) -> str:
    """Write a fill to *target* and return its SHA-256."""
    digest = hashlib.sha256()
    with (
        target.open('wb') as file,
        subprocess.Popen(
            [program, 'fill', str(size), str(seed)], stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        while block := process.stdout.read(MIB):
            digest.update(block)
            file.write(block)
    if process.returncode:
        raise LabError(f'{program} ended with status {process.returncode}')
    return digest.hexdigest()
