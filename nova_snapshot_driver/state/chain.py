# SPDX-License-Identifier: Apache-2.0
"""A chain of files: the snapshots of one disk, each over the one before it.

Each snapshot has three files in the directory of the chain:

* ``NAME.qcow2`` is the image. Its backing file, where it has one, is that of
  the snapshot before, by its bare name: the directory may be moved, and plain
  ``qemu-img`` reads it.
* ``NAME.leaves`` has the SHA-256 of each chunk of the disk.
* ``NAME.json`` is the record. It is written last and removed first: an image
  without a record was never finished, or is being removed.

The directory may come from anywhere, with whatever somebody has put in it: a
record is read strictly, and names files of its own directory alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients import qemu_img
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.view import Layer
from nova_snapshot_driver.state import chain_record
from nova_snapshot_driver.state.chain_record import ChainRecord

FORMAT = 'qcow2'

#: The lock of the process that adds a snapshot, or removes some.
LOCK = '.lock'

#: The lock of those that read images. They share it, and keep out only what
#: replaces or removes an image.
READ_LOCK = '.read.lock'

#: The longest record that is read, in bytes.
LONGEST_RECORD = 1 << 16

#: The most images that a snapshot needs, with its own. QEMU takes ever longer
#: to open a chain: 1 s for 100 images, 12 s for 200, and for 300 longer than
#: ``[snapshot] source_timeout``.
LONGEST = 100

_DRAFT = re.compile(
    r'.+\.(qcow2|leaves|json)(\.[0-9a-f]+)?'
    rf'{re.escape(private_files.DRAFT)}'
)


class Chain:
    """The directory of a chain, while it is open.

    :ivar path: of the directory
    """

    def __init__(self, path: str, files: Directory) -> None:
        self.path = path
        self._files = files

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str) -> Iterator[Chain]:
        """
        :raises ChainUnusable: there is no such directory, or others may write
            to it
        """
        with contextlib.ExitStack() as stack:
            with _translated(path):
                files = stack.enter_context(Directory.open(path))
                absolute = os.path.abspath(path)
            yield cls(absolute, files)

    @classmethod
    @contextlib.contextmanager
    def open_or_create(cls, path: str) -> Iterator[Chain]:
        """
        :raises ChainUnusable: the directory can't be made, or others may write
            to it
        """
        with _translated(path), contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        with cls.open(path) as chain:
            yield chain

    # Records

    def records(self) -> list[ChainRecord]:
        """All snapshots, oldest first.

        :raises ChainBroken: a record can't be read, or what it names is gone
        """
        with _translated(self.path):
            names = self._files.names()
        records = sorted(
            (
                self._record(name.removesuffix(chain_record.RECORD))
                for name in names
                if name.endswith(chain_record.RECORD) and name[0] != '.'
            ),
            key=lambda record: record.number,
        )
        self._see_is_one_chain(records)
        for record in records:
            if record.image not in names:
                raise self._broken(
                    record.name, f'its image {record.image} is missing'
                )
        return records

    def record(self, name: str) -> ChainRecord:
        """
        :raises ChainSnapshotNotFound: the chain has no such snapshot
        """
        for record in self.records():
            if record.name == name:
                return record
        raise exception.ChainSnapshotNotFound(directory=self.path, name=name)

    def newest(self) -> ChainRecord | None:
        records = self.records()
        return records[-1] if records else None

    def is_full_due(self) -> bool:
        """Whether the next snapshot has to be full, to be opened in time."""
        length = 0
        for record in self.records():
            length = 1 if record.parent is None else length + 1
        return length >= LONGEST

    def next_number(self) -> int:
        newest = self.newest()
        return newest.number + 1 if newest else 1

    def see_is_of(self, uuid: str, disk: str) -> None:
        """
        :raises ChainForeign: the chain is that of another domain or disk
        """
        newest = self.newest()
        if newest is not None and (newest.uuid, newest.disk) != (uuid, disk):
            raise exception.ChainForeign(
                directory=self.path,
                domain=newest.domain,
                uuid=newest.uuid,
                disk=newest.disk,
            )

    # Names and paths

    def unused_name(self, instant: datetime) -> str:
        """A name after an instant, in UTC, that no snapshot has."""
        first = name = f'{instant:%Y%m%dT%H%M%SZ}'
        ordinal = 1
        while self._is_taken(name):
            ordinal += 1
            name = f'{first}-{ordinal}'
        return name

    def see_is_unused(self, name: str) -> None:
        """
        :raises ChainNameRefused: a snapshot can't have the name, or one has it
        """
        if not chain_record.is_name(name):
            raise exception.ChainNameRefused(
                directory=self.path,
                name=name,
                reason='it has to be of letters, digits, ".", "_" and "-", '
                'begin with a letter or digit, and have at most '
                f'{chain_record.LONGEST_NAME} characters',
            )
        if self._is_taken(name):
            raise exception.ChainNameRefused(
                directory=self.path, name=name, reason='it is taken'
            )

    def image_path(self, name: str) -> str:
        return os.path.join(self.path, name + chain_record.IMAGE)

    def image_size(self, record: ChainRecord) -> int:
        """The bytes of the file with an image."""
        with _translated(self.path):
            return os.stat(self.image_path(record.name)).st_size

    def leaves_path(self, name: str) -> str:
        return os.path.join(self.path, name + chain_record.LEAVES)

    def has_leaves(self, name: str) -> bool:
        return self._files.has(name + chain_record.LEAVES)

    def image_draft(self, name: str) -> str:
        """Where the image of a snapshot is written before it is published."""
        return self.image_path(name) + private_files.DRAFT

    def leaves_draft(self, name: str) -> str:
        """Where the leaves of a snapshot are written."""
        return self.leaves_path(name) + private_files.DRAFT

    def layer(self, record: ChainRecord) -> Layer:
        """The image of a snapshot over those that it needs.

        The header of an image decides whether it needs another one: merging
        replaces an image by a full one a moment before its record says so.
        The record decides which one: a header may name any file of the host.

        :raises ChainBroken: a header and a record contradict each other
        """
        records = {each.name: each for each in self.records()}
        needed = [record]
        while (parent := self._parent_in_header(needed[-1])) is not None:
            needed.append(records[parent])
        layer: Layer | None = None
        for each in reversed(needed):
            layer = Layer(
                self.image_path(each.name),
                FORMAT,
                backing=layer,
                is_last=layer is None,
            )
        assert layer is not None  # noqa: S101 (for mypy)
        return layer

    # Changes

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep out all others who would change the chain.

        What a process that died has left of unfinished snapshots is removed.

        :raises ChainBusy: another process changes it
        """
        with self._holding(LOCK):
            self._remove_leftovers()
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep images from being replaced and removed; new ones may come.

        :raises ChainBusy: another process replaces some
        """
        with (
            contextlib.nullcontext()
            if self._files.is_read_only
            else self._holding(READ_LOCK, shared=True)
        ):
            yield

    @contextlib.contextmanager
    def locked_against_readers(self) -> Iterator[None]:
        """Keep out those who change the chain, and those who read images.

        :raises ChainBusy: there is one
        """
        with self.locked(), self._holding(READ_LOCK):
            yield

    def publish(self, record: ChainRecord) -> None:
        """Make a snapshot of the drafts that the data plane has written.

        The data of the drafts have to be on the disk already.
        """
        with _translated(self.path):
            self._files.rename(
                record.leaves + private_files.DRAFT, record.leaves
            )
            self._files.rename(
                record.image + private_files.DRAFT, record.image
            )
            # The names must not come after that of the record.
            self._files.sync()
        self.write_record(record)

    def discard_drafts(self, name: str) -> None:
        with _translated(self.path):
            for suffix in (chain_record.IMAGE, chain_record.LEAVES):
                self._files.remove(name + suffix + private_files.DRAFT)

    def replace_image(self, record: ChainRecord) -> None:
        """Put a draft in the place of the image of a snapshot.

        The image has the same content, and may need no other one.
        """
        with _translated(self.path):
            self._files.rename(
                record.image + private_files.DRAFT, record.image
            )
            self._files.sync()

    def write_record(self, record: ChainRecord) -> None:
        content = json.dumps(record.to_dict(), indent=4).encode() + b'\n'
        with _translated(self.path):
            self._files.write(record.file, content, synced=True)

    def remove(self, record: ChainRecord) -> None:
        """Remove a snapshot that no other one needs."""
        with _translated(self.path):
            self._files.remove(record.file)
            # A record without an image would be a broken chain.
            self._files.sync()
            self._remove_files(record.name)

    def _remove_files(self, name: str) -> None:
        # The leaves mark the image beside them as one of a chain.
        self._files.remove(name + chain_record.IMAGE)
        self._files.remove(name + chain_record.LEAVES)

    def _remove_leftovers(self) -> None:
        """Remove drafts, and the files of snapshots that have no record.

        An image that has no leaves beside it may be a user's own.
        """
        records = {record.name for record in self.records()}
        with _translated(self.path):
            for each in self._files.names():
                name, suffix = os.path.splitext(each)
                if _DRAFT.fullmatch(each):
                    self._files.remove(each)
                elif suffix == chain_record.LEAVES and name not in records:
                    self._remove_files(name)

    @contextlib.contextmanager
    def _holding(self, name: str, shared: bool = False) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                with _translated(self.path):
                    stack.enter_context(self._files.locked(name, shared))
            except BlockingIOError as error:
                raise exception.ChainBusy(directory=self.path) from error
            yield

    def _record(self, name: str) -> ChainRecord:
        try:
            content = self._files.read(
                name + chain_record.RECORD, LONGEST_RECORD + 1
            )
            if len(content) > LONGEST_RECORD:
                raise ValueError(f'it is longer than {LONGEST_RECORD} bytes')
            record = ChainRecord.from_dict(json.loads(content))
            if record.name != name:
                raise ValueError('it is that of another name')
        except OSError as error:
            raise self._broken(
                name, f'its record cannot be read: {error.strerror}'
            ) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise self._broken(name, f'its record: {error}') from error
        return record

    def _see_is_one_chain(self, records: list[ChainRecord]) -> None:
        numbers = {record.number for record in records}
        before = None
        for record in records:
            if len(numbers) != len(records):
                raise self._broken(record.name, 'two records have one number')
            if (record.uuid, record.disk) != (
                records[0].uuid,
                records[0].disk,
            ):
                raise self._broken(
                    record.name,
                    f'it is of another disk than {records[0].name}',
                )
            if record.parent not in (None, before):
                raise self._broken(
                    record.name,
                    f'{record.parent}, which it needs, is not right before it',
                )
            before = record.name

    def _parent_in_header(self, record: ChainRecord) -> str | None:
        backing = qemu_img.recorded_backing(
            Layer(self.image_path(record.name), FORMAT)
        )
        if backing is None:
            return None
        if record.parent is None or backing != (
            record.parent + chain_record.IMAGE,
            FORMAT,
        ):
            raise self._broken(
                record.name,
                f'its image names the backing file {backing[0]} '
                f'({backing[1]}), and its record does not',
            )
        return record.parent

    def _is_taken(self, name: str) -> bool:
        return any(
            self._files.has(name + suffix) for suffix in chain_record.SUFFIXES
        )

    def _broken(self, name: str, why: str) -> exception.ChainBroken:
        return exception.ChainBroken(
            directory=self.path, name=name, reason=why
        )


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise exception.ChainUnusable(
            directory=path, reason=error.strerror
        ) from error
