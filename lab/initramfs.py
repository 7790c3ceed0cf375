# SPDX-License-Identifier: Apache-2.0
"""The initramfs of the guest: busybox, kernel modules, the guest agent."""

import gzip
import lzma
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from lab.bounded import run
from lab.errors import LabError

# A module that is missing is built into the kernel.
_MODULES = (
    'ata_piix',
    'button',
    'crc32c_generic',
    'evdev',
    'ext4',
    'pvpanic_mmio',
    'sd_mod',
    'virtio_blk',
    'virtio_console',
    'virtio_pci',
    'virtio_scsi',
)

_DIRECTORIES = (
    'bin',
    'data',
    'dev',
    'etc',
    'etc/acpi',
    'etc/acpi/PWRF',
    'modules',
    'proc',
    'run',
    'sbin',
    'sys',
)


class Initramfs:
    """A newc cpio archive, the format that the kernel unpacks at boot."""

    def __init__(self) -> None:
        self._archive = bytearray()
        self._entries = 0
        for path in _DIRECTORIES:
            self._add(path, stat.S_IFDIR | 0o755)
        # The kernel opens it for init before devtmpfs is mounted.
        self._add('dev/console', stat.S_IFCHR | 0o600, device=(5, 1))

    def add_file(self, path: str, content: bytes) -> None:
        """Add an executable file; its directory has to be there."""
        self._add(path, stat.S_IFREG | 0o755, content)

    def add_modules(self, kernel: Path) -> None:
        """Add the modules below *kernel*, and the order to load them in.

        :param kernel: the unpacked packages of the kernel
        """
        files = {
            file.name.split('.')[0].replace('-', '_'): file
            for file in kernel.rglob('*.ko*')
        }
        order: list[str] = []

        def add(module: str) -> None:
            if module in order or module not in files:
                return
            content = _decompressed(files[module])
            for dependency in _dependencies(content):
                add(dependency)
            self.add_file(f'modules/{module}', content)
            order.append(module)

        for module in _MODULES:
            add(module)
        self.add_file(
            'modules/order', ''.join(f'{name}\n' for name in order).encode()
        )

    def add_program(self, path: str, program: Path) -> None:
        """Add a program with the shared libraries it is linked to.

        The libraries are those of this host: the program has to come from
        the same release of the same distribution.

        :raises LabError: a library is not installed on this host
        """
        self.add_file(path, program.read_bytes())
        for library in _libraries(program):
            for parent in reversed(library.relative_to('/').parents[:-1]):
                self._add(str(parent), stat.S_IFDIR | 0o755)
            self.add_file(str(library.relative_to('/')), library.read_bytes())

    def write(self, path: Path) -> None:
        """Write the archive to *path*, compressed."""
        self._add('TRAILER!!!', 0)
        path.write_bytes(gzip.compress(self._archive, compresslevel=6))

    def _add(
        self,
        path: str,
        mode: int,
        content: bytes = b'',
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._entries += 1
        name = path.encode() + b'\0'
        fields = (
            self._entries,  # inode
            mode,
            0,  # owner
            0,  # group
            1,  # links
            0,  # modification time
            len(content),
            *(0, 0),  # the device the file is on
            *device,
            len(name),
            0,  # checksum
        )
        header = b'070701' + b''.join(b'%08X' % field for field in fields)
        for part in (header + name, content):
            self._archive += part + b'\0' * (-len(part) % 4)


def _decompressed(module: Path) -> bytes:
    match module.suffix:
        case '.xz':
            return lzma.decompress(module.read_bytes())
        case '.zst':
            plain = module.with_suffix('')
            run(['zstd', '-dqf', module, '-o', plain], timeout=60)
            return plain.read_bytes()
        case _:
            return module.read_bytes()


def _dependencies(module: bytes) -> list[str]:
    """The modules that have to be loaded before, by the ELF's .modinfo."""
    found = re.search(rb'\0depends=([^\0]*)', module)
    if found is None or not found[1]:
        return []
    return found[1].decode().replace('-', '_').split(',')


def _libraries(program: Path) -> Iterator[Path]:
    output = run(['ldd', program], timeout=30)
    missing = re.findall(r'(\S+) => not found', output)
    if missing:
        raise LabError(
            f'{program.name} needs {", ".join(missing)}, which this host '
            'does not have'
        )
    yield from map(Path, re.findall(r'(/\S+) \(0x', output))


def busybox() -> Path:
    """The host's static busybox.

    :raises LabError: it is missing, or linked to libraries
    """
    path = shutil.which('busybox')
    if path is None or 'not a dynamic executable' not in run(
        ['ldd', path], timeout=30, accept=(0, 1)
    ):
        raise LabError('the lab needs the package busybox-static')
    return Path(path)
