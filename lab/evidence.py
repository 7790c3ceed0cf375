# SPDX-License-Identifier: Apache-2.0
"""The proof that an image holds what the witness had synced."""

import dataclasses
import hashlib
import json
import re
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.bounded import run
from lab.disks import Layer
from lab.errors import LabError

_TIMEOUT = 300

_SECTOR = 512
_RECORD_SIZE = 64
_CHECKABLE = ('qcow2', 'vdi', 'vmdk')

# The exit statuses of e2fsck.
_CLEAN = 0
_CORRECTED = 1


class EvidenceError(AssertionError):
    """The image is not what it should be."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The evidence found in an image that holds what it should."""

    #: ``qemu-img check`` found no fault; False: it does not know the format
    checked: bool
    #: the file system was in use and not frozen when the image was taken
    journal_replayed: bool
    #: the log has the records from 1 to this number, none of them torn
    records: int
    #: the files whose content was compared
    fills: frozenset[str]


def examine(image: Layer, fills: Mapping[str, str]) -> Evidence:
    """Prove the image of a witness's first disk, with all layers below it.

    :param image: raw, qcow2, vmdk or vdi, not in use by a guest
    :param fills: the SHA-256 of the files that have to be there, by name
    :raises EvidenceError: the image is not what it should be
    :raises LabError: a tool is missing or takes too long
    """
    checked = image.format in _CHECKABLE
    if checked:
        _prove(['qemu-img', 'check', '-f', image.format, image.path])
    with tempfile.TemporaryDirectory(
        prefix='.evidence.', dir=image.path.parent
    ) as name:
        scratch = Path(name)
        partition = scratch / 'partition'
        start = _second_partition(_cut(image, scratch / 'mbr', 0, _SECTOR))
        _cut(image, partition, start)
        journal_replayed = _check_file_system(partition)
        for file, digest in fills.items():
            content = _dump(partition, file, scratch)
            with content.open('rb') as opened:
                found = hashlib.file_digest(opened, 'sha256').hexdigest()
            if found != digest:
                raise EvidenceError(
                    f'the file {file} in {image.path} has the SHA-256 '
                    f'{found} instead of {digest}'
                )
        records = _count_records(_dump(partition, 'log', scratch))
    return Evidence(checked, journal_replayed, records, frozenset(fills))


def number_on_second_disk(image: Layer) -> int:
    """Return the number of the record on an image of the second disk.

    Both images show one instant if it is equal to the records of the first
    disk or one less.

    :raises EvidenceError: there is no record or a torn one
    """
    with tempfile.TemporaryDirectory(
        prefix='.evidence.', dir=image.path.parent
    ) as name:
        sector = _cut(image, Path(name) / 'sector', 0, _SECTOR)
        text = sector.read_bytes()[:_RECORD_SIZE]
    number = text.split(b' ')[0]
    if not number.isdigit() or text != _record(int(number)):
        raise EvidenceError(f'{image.path} starts with {text!r}, no record')
    return int(number)


def _cut(
    image: Layer, target: Path, start: int, size: int | None = None
) -> Path:
    """Copy a stretch of the guest's view of a disk, sparsely.

    e2fsck takes an offset too, but loses it when it replays the journal.
    """
    stretch: dict[str, object] = {'driver': 'raw', 'offset': start}
    if size is not None:
        stretch['size'] = size
    stretch['file'] = {
        'driver': image.format,
        'file': {'driver': 'file', 'filename': str(image.path)},
    }
    _prove(
        [
            *('qemu-img', 'convert', '-O', 'raw'),
            *(f'json:{json.dumps(stretch)}', target),
        ]
    )
    return target


def _second_partition(mbr: Path) -> int:
    record = mbr.read_bytes()
    if record[510:512] != b'\x55\xaa':
        raise EvidenceError('the image has no master boot record')
    sectors: int = struct.unpack_from('<I', record, 446 + 16 + 8)[0]
    return sectors * _SECTOR


def _check_file_system(partition: Path) -> bool:
    """Return whether the journal had to be replayed."""
    output = _prove(['e2fsck', '-p', partition], accept=(_CLEAN, _CORRECTED))
    _prove(['e2fsck', '-f', '-n', partition])
    return re.search('recovering journal', output) is not None


def _dump(partition: Path, file: str, scratch: Path) -> Path:
    """Copy a file out of the file system."""
    content = scratch / 'content'
    content.unlink(missing_ok=True)
    output = _prove(['debugfs', '-R', f'dump /{file} {content}', partition])
    if not content.exists() or 'not found' in output:
        raise EvidenceError(f'the image has no file {file}: {output.strip()}')
    return content


def _count_records(log: Path) -> int:
    content = log.read_bytes()
    count, torn = divmod(len(content), _RECORD_SIZE)
    if torn:
        raise EvidenceError(f'the log ends with {torn} bytes of a record')
    if not count:
        raise EvidenceError('the log is empty')
    for number in range(1, count + 1):
        end = number * _RECORD_SIZE
        found = content[end - _RECORD_SIZE : end]
        if found != _record(number):
            raise EvidenceError(
                f'record {number} of {count} in the log is {found!r}'
            )
    return count


def _record(number: int) -> bytes:
    return b' '.join([b'%015d' % number] * 4) + b'\n'


def _prove(argv: list[str | Path], accept: tuple[int, ...] = (_CLEAN,)) -> str:
    """Run a tool whose exit status is the proof."""
    try:
        return run(argv, timeout=_TIMEOUT, accept=accept)
    except LabError as error:
        raise EvidenceError(str(error)) from error
