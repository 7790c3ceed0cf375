# SPDX-License-Identifier: Apache-2.0
"""A disk that boots by its MBR, made without root, mount or loop device."""

import struct
from pathlib import Path

from lab.bounded import run
from lab.errors import LabError

MIB = 1 << 20
_SECTOR = 512
_TIMEOUT = 120

# MBR, then FAT16 with syslinux and the kernel, then ext4 to the end.
_BOOT_START = 1 * MIB
_BOOT_SIZE = 48 * MIB
DATA_START = _BOOT_START + _BOOT_SIZE

_MASTER_BOOT_CODE = Path('/usr/lib/syslinux/mbr/mbr.bin')
_TYPE_FAT16_LBA = 0x0E
_TYPE_LINUX = 0x83


def write_boot_disk(
    disk: Path, size: int, boot_files: list[Path], data: Path
) -> None:
    """Write a sparse raw disk.

    :param size: bytes
    :param boot_files: what syslinux reads: its configuration, the kernel
        and the initrd, under the names that the configuration uses
    :param data: the directory whose files are on the file system "witness"
    :raises LabError: a tool is missing or fails
    """
    if not _MASTER_BOOT_CODE.exists():
        raise LabError('the lab needs the package syslinux-common')
    with disk.open('wb') as file:
        file.truncate(size)
        file.write(_master_boot_record(size))
    _write_boot_partition(disk, boot_files)
    _write_data_partition(disk, size, data)


def _master_boot_record(size: int) -> bytes:
    partitions = (
        _partition(_TYPE_FAT16_LBA, _BOOT_START, _BOOT_SIZE, active=True),
        _partition(_TYPE_LINUX, DATA_START, size - DATA_START, active=False),
    )
    code = _MASTER_BOOT_CODE.read_bytes()[:440]
    table = b''.join(partitions).ljust(64, b'\0')
    return code.ljust(446, b'\0') + table + b'\x55\xaa'


def _partition(kind: int, start: int, size: int, *, active: bool) -> bytes:
    no_chs = b'\xfe\xff\xff'
    return struct.pack(
        '<B3sB3sII',
        0x80 if active else 0,
        no_chs,
        kind,
        no_chs,
        start // _SECTOR,
        size // _SECTOR,
    )


def _write_boot_partition(disk: Path, files: list[Path]) -> None:
    run(
        [
            'mkfs.fat',
            *('-F', '16', '--offset', str(_BOOT_START // _SECTOR)),
            *(disk, str(_BOOT_SIZE // 1024)),
        ],
        timeout=_TIMEOUT,
    )
    # mtools objects to geometries that no BIOS cares for any more.
    skip_check = {'MTOOLS_SKIP_CHECK': '1'}
    run(
        ['mcopy', '-i', f'{disk}@@{_BOOT_START}', *files, '::/'],
        timeout=_TIMEOUT,
        environment=skip_check,
    )
    run(
        ['syslinux', '--offset', str(_BOOT_START), '--install', disk],
        timeout=_TIMEOUT,
        environment=skip_check,
    )


def _write_data_partition(disk: Path, size: int, data: Path) -> None:
    run(
        [
            *('mke2fs', '-q', '-F', '-t', 'ext4', '-m', '0', '-L', 'witness'),
            *('-J', 'size=16', '-d', data),
            # nodiscard keeps the boot partition in the same file.
            *('-E', f'offset={DATA_START},nodiscard,lazy_itable_init=1'),
            *(disk, f'{(size - DATA_START) // 1024}k'),
        ],
        timeout=_TIMEOUT,
    )
