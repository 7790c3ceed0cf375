# SPDX-License-Identifier: Apache-2.0
"""The disk of a guest, in the shapes that Nova gives it."""

import dataclasses
from pathlib import Path

import tenacity

from lab.bounded import run
from lab.errors import LabError
from lab.options import Shape
from lab.root import as_root
from lab.secret import passphrase_file
from lab.witness import WitnessImage

_TIMEOUT = 120


@dataclasses.dataclass(frozen=True)
class Layer:
    """A file of a disk."""

    path: Path
    format: str
    encrypted: bool = False


def write_disk(
    shape: Shape, image: WitnessImage, directory: Path
) -> list[Layer]:
    """Write a disk of the shape into *directory*.

    The layers below the active one are copies too: a fault of the code under
    test must not reach the cache.

    :return: its layers, the active one first
    """
    base_raw = Layer(directory / 'base', 'raw')
    base_qcow2 = Layer(directory / 'base', 'qcow2')
    middle = Layer(directory / 'middle', 'qcow2')
    disk = directory / 'disk'
    match shape:
        case Shape.RAW:
            _copy(image.base_raw, disk)
            return [Layer(disk, 'raw')]
        case Shape.QCOW2:
            _copy(image.base_qcow2, disk)
            return [Layer(disk, 'qcow2')]
        case Shape.RAW_BASE:
            _copy(image.base_raw, base_raw.path)
            return [_overlay(disk, base_raw), base_raw]
        case Shape.CHAIN2:
            _copy(image.base_qcow2, base_qcow2.path)
            return [_overlay(disk, base_qcow2), base_qcow2]
        case Shape.CHAIN3:
            _copy(image.base_qcow2, base_qcow2.path)
            _copy(image.middle_qcow2, middle.path)
            _set_backing(middle, base_qcow2)
            return [_overlay(disk, middle), middle, base_qcow2]
        case Shape.BLOCK:
            _copy(image.base_raw, directory / 'content')
            _attach(disk, directory / 'content')
            return [Layer(disk, 'raw')]
        case Shape.LUKS:
            _encrypt(image.base_raw, disk, passphrase_file(directory))
            return [Layer(disk, 'qcow2', encrypted=True)]


def discard_disk(shape: Shape, directory: Path) -> None:
    """Release the parts of a disk that are no files."""
    disk = directory / 'disk'
    if shape is Shape.BLOCK and disk.is_symlink():
        as_root('losetup', '--detach', disk.readlink())


def _copy(source: Path, target: Path) -> None:
    run(
        ['cp', '--sparse=always', '--reflink=auto', source, target],
        timeout=_TIMEOUT,
    )


def _attach(link: Path, content: Path) -> None:
    """Make a link to a loop device."""
    device = as_root('losetup', '--find', '--show', content).strip()
    link.symlink_to(device)
    as_root('chmod', 'o+rw', device)


@tenacity.retry(
    # "Unable to get accurate CPU usage", on a busy machine.
    retry=tenacity.retry_if_exception_type(LabError),
    stop=tenacity.stop_after_attempt(3),
    reraise=True,
)
def _encrypt(source: Path, target: Path, passphrase: Path) -> None:
    run(
        [
            *('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2'),
            *('--object', f'secret,id=key,file={passphrase}'),
            # A short key derivation: the disk is to open fast, not to be safe.
            *('-o', 'encrypt.format=luks,encrypt.iter-time=10'),
            *('-o', 'encrypt.key-secret=key'),
            *(source, target),
        ],
        timeout=_TIMEOUT,
    )


def _overlay(path: Path, backing: Layer) -> Layer:
    run(
        [
            *('qemu-img', 'create', '-q', '-f', 'qcow2'),
            *('-b', backing.path, '-F', backing.format, path),
        ],
        timeout=_TIMEOUT,
    )
    return Layer(path, 'qcow2')


def _set_backing(layer: Layer, backing: Layer) -> None:
    run(
        [
            *('qemu-img', 'rebase', '-u', '-f', layer.format),
            *('-b', backing.path, '-F', backing.format, layer.path),
        ],
        timeout=_TIMEOUT,
    )
