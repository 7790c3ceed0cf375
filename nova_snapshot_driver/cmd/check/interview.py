# SPDX-License-Identifier: Apache-2.0
"""The program that asks nova-compute's interpreter about Nova and the driver.

That interpreter runs it in a process of its own and prints the answers: see
``interpreter``. The text of this module is passed as it stands, and imports
nothing of this package: whether the package is there is the question.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import sysconfig
import traceback
from typing import Any

PACKAGE = 'nova_snapshot_driver'
DISTRIBUTION = 'nova-snapshot-driver'
MODULE = 'nova.virt.snapshot_driver'
CLASS = 'LibvirtSnapshotDriver'

#: The answers to questions that are not asked, since an earlier one failed.
ANSWERS: dict[str, Any] = {
    'prefix': '',
    'purelib': '',
    'externally_managed': False,
    'nova': None,
    'nova_version': None,
    'nova_failure': None,
    'owners': [],
    'hidden': [],
    'package': None,
    'package_version': None,
    'virt': None,
    'visible': False,
    'driver_failure': None,
    'is_driver': False,
    'unmet': None,
    'has_libvirt': False,
    'has_metrics': False,
    'libnbd': None,
}

#: The extras whose requirements nova-compute may need; none is that of all.
EXTRAS = ('', 'libvirt', 'metrics')


def interview() -> dict[str, Any]:
    """The fields of ``interpreter.Interview``.

    The imports are those of ``nova.virt.driver.load_compute_driver``, but the
    class is not instantiated.
    """
    answers = ANSWERS | _environment()
    try:
        base = importlib.import_module('nova.virt.driver').ComputeDriver
    # Any exception that keeps Nova from being imported is the answer.
    except (Exception, SystemExit) as error:
        answers['nova_failure'] = _failure(error)
        answers['owners'] = _owners(answers['nova'])
        answers['hidden'] = [
            path for path in sys.path if _is_nova(path, answers['nova'])
        ]
        return answers
    answers['virt'] = next(iter(sys.modules['nova.virt'].__path__))
    if importlib.util.find_spec(MODULE) is None:
        return answers
    answers['visible'] = True
    try:
        module = importlib.import_module(MODULE)
    except (Exception, SystemExit) as error:
        answers['driver_failure'] = _failure(error)
        return answers
    driver = getattr(module, CLASS, None)
    answers['is_driver'] = isinstance(driver, type) and issubclass(
        driver, base
    )
    if answers['is_driver']:
        answers['unmet'] = _unmet()
        answers['has_libvirt'] = bool(importlib.util.find_spec('libvirt'))
        answers['has_metrics'] = _directory('prometheus_client') is not None
        answers['libnbd'] = _libnbd()
    return answers


def _environment() -> dict[str, Any]:
    return {
        'prefix': sys.prefix,
        'purelib': sysconfig.get_path('purelib'),
        'externally_managed': _externally_managed(),
        'nova': _directory('nova'),
        'nova_version': _version('nova'),
        'package': _parent(_directory(PACKAGE)),
        'package_version': _version(DISTRIBUTION),
    }


def _externally_managed() -> bool:
    """Whether pip is to leave this Python to the distribution (PEP 668)."""
    scheme = sysconfig.get_default_scheme()
    marker = os.path.join(
        sysconfig.get_path('stdlib', scheme), 'EXTERNALLY-MANAGED'
    )
    return sys.prefix == sys.base_prefix and os.path.exists(marker)


def _directory(package: str) -> str | None:
    """The directory of a package; None for one without ``__init__.py``.

    The driver itself installs a directory ``nova``, even where no Nova is.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return os.path.dirname(spec.origin)


def _parent(path: str | None) -> str | None:
    return path and os.path.dirname(path)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet() -> list[dict[str, str | None]] | None:
    """The fields of each ``interpreter.Unmet``; None if nobody can tell.

    pip checks the requirements, unless it was told not to (``--no-deps``), but
    those of extras only where they are asked for.
    """
    try:
        # Every Nova has it, for oslo.utils.
        from packaging.requirements import Requirement

        required = importlib.metadata.requires(DISTRIBUTION) or []
    except ImportError:
        return None
    unmet: list[dict[str, str | None]] = []
    for each in map(Requirement, required):
        extra = next(
            (
                extra
                for extra in EXTRAS
                if not each.marker or each.marker.evaluate({'extra': extra})
            ),
            None,
        )
        version = _version(each.name)
        if extra is None or (
            version is not None
            and each.specifier.contains(version, prereleases=True)
        ):
            continue
        unmet.append(
            {
                'name': each.name,
                'least': str(each.specifier),
                'version': version,
                'extra': extra,
            }
        )
    return unmet


def _libnbd() -> dict[str, Any] | None:
    """The fields of ``interpreter.Libnbd``; None for a driver that can't say.

    The driver itself says it, which looks where no path of modules leads.
    """
    try:
        libnbd = importlib.import_module(f'{PACKAGE}.transfer.nbd.libnbd')
        return {
            'is_available': libnbd.is_available(),
            'other': libnbd.of_another_python(),
            'tag': sys.implementation.cache_tag,
            'failure': _why_not_loaded(libnbd),
        }
    # An older driver may lack any of these.
    except Exception:
        return None


def _why_not_loaded(libnbd: Any) -> str | None:
    if not libnbd.is_available():
        return None
    try:
        libnbd.load()
    except Exception as error:
        return str(error)
    return None


def _failure(error: BaseException) -> dict[str, str | None]:
    """The fields of ``interpreter.Failure``."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith('<frozen')
    ]
    return {
        'kind': type(error).__name__,
        'message': str(error),
        'module': error.name
        if isinstance(error, ModuleNotFoundError)
        else None,
        'where': f'{frames[-1].filename}:{frames[-1].lineno}',
    }


def _owners(nova: str | None) -> list[str]:
    """The projects, but for Nova itself, that have installed a ``nova``."""
    if nova is None:
        return []
    owned = os.path.join(nova, '__init__.py')
    return sorted(
        distribution.metadata['Name']
        for distribution in importlib.metadata.distributions()
        if distribution.metadata['Name'] != 'nova'
        and any(
            str(file) == 'nova/__init__.py'
            and os.path.realpath(str(file.locate())) == os.path.realpath(owned)
            for file in distribution.files or []
        )
    )


def _is_nova(path: str, other: str | None) -> bool:
    """Whether a directory on the path of modules has another Nova."""
    nova = os.path.join(path, 'nova')
    return nova != other and os.path.exists(
        os.path.join(nova, 'virt', 'driver.py')
    )


if __name__ == '__main__':
    print(json.dumps(interview()))
