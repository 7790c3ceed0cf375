# SPDX-License-Identifier: Apache-2.0
"""libnbd's Python module, which comes with the distribution alone.

A virtual environment does not see the distribution's packages: the module is
loaded from its own path, and nothing else from there. PyPI has another package
under the same name.
"""

from __future__ import annotations

import glob
import importlib.machinery
import importlib.util
import os
import sys
import types

from nova_snapshot_driver import exception

#: Where distributions keep the modules of their own Python.
DIRECTORIES = (
    '/usr/lib/python3/dist-packages',
    f'/usr/lib64/python{sys.version_info[0]}.{sys.version_info[1]}'
    '/site-packages',
    f'/usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}'
    '/site-packages',
)

_MODULE = 'nbd'

#: The extension that the module wraps.
_EXTENSION = 'libnbdmod'


def is_available() -> bool:
    """Whether there is one for this Python; nothing is loaded."""
    return _find() is not None


def of_another_python() -> str | None:
    """The extension that is built for another Python than this, if any."""
    if is_available():
        return None
    for directory in DIRECTORIES:
        found = sorted(glob.glob(f'{_EXTENSION}.*.so', root_dir=directory))
        if found:
            return os.path.join(directory, found[0])
    return None


def load() -> types.ModuleType:
    """The module.

    :raises LibnbdMissing: there is none, or it can't be loaded
    """
    found = _find()
    if found is None:
        raise exception.LibnbdMissing(
            reason='there is no module nbd for '
            f'{sys.implementation.cache_tag} in '
            f'{" or ".join(DIRECTORIES)}'
        )
    module, extension = found
    try:
        # The wrapper imports the extension, and the extension the wrapper.
        _load(_EXTENSION, extension)
        return _load(_MODULE, module)
    except ImportError as error:
        raise exception.LibnbdMissing(reason=str(error)) from error


def _find() -> tuple[str, str] | None:
    """The files of the module and of its extension."""
    for directory in (*DIRECTORIES, *sys.path):
        module = os.path.join(directory, f'{_MODULE}.py')
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            extension = os.path.join(directory, _EXTENSION + suffix)
            if os.path.isfile(extension) and os.path.isfile(module):
                return module, extension
    return None


def _load(name: str, path: str) -> types.ModuleType:
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == path:
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f'{path} is no module')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
