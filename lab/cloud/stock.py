# SPDX-License-Identifier: Apache-2.0
"""A Nova in an environment of its own, as an operator has it.

The driver is not installed there, and whoever deploys it installs it.
"""

import contextlib
import dataclasses
import errno
import os
import re
import shutil
from pathlib import Path

from lab.cloud.checkout import uninstall_checkout
from lab.cloud.install import CloudInstall


def stock_install(install: CloudInstall, directory: Path) -> CloudInstall:
    """The environment in a directory, which need not be there yet."""
    return dataclasses.replace(install, directory=directory)


def make_stock(install: CloudInstall, directory: Path) -> None:
    """Copy an installation without the driver, unless there is a copy.

    The files are links to the same content: that takes seconds and no room.
    pip and Python replace a file, and never write into one.

    :raises LabError: the driver can't be uninstalled there
    """
    if directory.exists():
        return
    new = directory.with_name(f'{directory.name}.new')
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(
        install.directory, new, symlinks=True, copy_function=_link_or_copy
    )
    for path in (new / 'bin').iterdir():
        _replace_prefix(path, install.directory.name, str(directory))
    uninstall_checkout(stock_install(install, new).python)
    # A copy that is there is complete: one that was cut off is made anew.
    new.rename(directory)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(source, target)


def _replace_prefix(path: Path, name: str, new: str) -> None:
    """Have a script run on the Python of the copy.

    :param name: of the directory of the original, which several labs share,
        each by a path of its own
    """
    if path.is_symlink() or not path.is_file():
        return
    # A program that is no text has no first line with a path.
    with contextlib.suppress(UnicodeDecodeError):
        text = path.read_text()
        replaced = re.sub(rf'/[^\s"\'=:]*/{re.escape(name)}\b', new, text)
        if replaced != text:
            mode = path.stat().st_mode
            path.unlink()
            path.write_text(replaced)
            path.chmod(mode)
