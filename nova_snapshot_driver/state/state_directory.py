# SPDX-License-Identifier: Apache-2.0
"""The state directory, as those who look at it find it.

A directory that is empty and one that can't be read are never the same to
them, and neither are their files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Generic
from typing import TypeVar

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.private_files import Directory
from nova_snapshot_driver.common.private_files import NoFile
from nova_snapshot_driver.common.private_files import Refused

OPTION = '[snapshot] state_directory'

Found = TypeVar('Found')


@dataclasses.dataclass(frozen=True)
class Listing(Generic[Found]):
    """The files of one kind, as far as they could be read.

    :ivar unreadable: an error for each file that could not
    """

    found: tuple[Found, ...]
    unreadable: tuple[exception.StateUnreadable, ...]


class Foreign(Exception):
    """A file has the name of the driver's, and the content of another."""


@contextlib.contextmanager
def opened(path: str) -> Iterator[Directory]:
    """The directory, for somebody who reads what lies there.

    :param path: ``[snapshot] state_directory``
    :raises StateDirectoryMissing: there is none
    :raises DirectoryUnusable: it is no directory, or others write to it
    :raises StateUnreadable: this user may not read it, or its disk fails
    """
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(Directory.open(path))
        except FileNotFoundError as error:
            raise exception.StateDirectoryMissing(
                directory=path, option=OPTION
            ) from error
        except (NotADirectoryError, Refused) as error:
            raise unusable(error, path) from error
        except OSError as error:
            raise unreadable(error, path) from error
        yield directory


def unusable(error: OSError, path: str) -> exception.DirectoryUnusable:
    """The error of the driver where it can't keep its state."""
    return exception.DirectoryUnusable(
        directory=path, reason=error.strerror, option=OPTION
    )


def unreadable(error: OSError, path: str) -> exception.StateUnreadable:
    """The error of the driver where nobody can tell what is in a path."""
    return exception.StateUnreadable(
        path=path, reason=error.strerror, option=OPTION
    )


def names(directory: Directory, path: str) -> list[str]:
    """The names of all files.

    :raises StateUnreadable: this user may not list them, or the disk fails
    """
    try:
        return directory.names()
    except OSError as error:
        raise unreadable(error, path) from error


def domain_of(error: exception.StateUnreadable) -> str:
    """The UUID of the domain that a file is about, by the file's name."""
    name: str = os.path.basename(error.fields['path'])
    return name.partition('.')[0]


def read(directory: Directory, name: str, largest: int) -> str:
    """The text of a file.

    :param largest: the bytes that no file of its kind comes near to
    :raises Foreign: it is none of the driver's
    """
    try:
        content = directory.read(name, largest + 1)
    except NoFile as error:
        raise Foreign(error.strerror) from error
    if len(content) > largest:
        raise Foreign('it is too large')
    with understood():
        return content.decode()


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Build a record inside, from what a file says.

    :raises Foreign: it says something else
    """
    try:
        yield
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        RecursionError,
    ) as error:
        raise Foreign(str(error)) from error


def listing(
    path: str, names: Iterable[str], load: Callable[[str], Found | None]
) -> Listing[Found]:
    """Load files, of which one that can't be read hides no other.

    :param names: of the files
    :param load: returns None for a file that nobody has asked for
    """
    found, errors = [], []
    for name in names:
        try:
            each = load(name)
        except FileNotFoundError:
            # The snapshot has ended meanwhile.
            continue
        except exception.StateUnreadable as error:
            errors.append(error)
        except OSError as error:
            errors.append(unreadable(error, os.path.join(path, name)))
        except Foreign as error:
            errors.append(
                exception.StateUnreadable(
                    path=os.path.join(path, name),
                    reason=str(error),
                    option=OPTION,
                )
            )
        else:
            if each is not None:
                found.append(each)
    return Listing(tuple(found), tuple(errors))
