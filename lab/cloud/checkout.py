# SPDX-License-Identifier: Apache-2.0
"""The package of this checkout, installed as an operator would."""

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.bounded import run

_PROJECT = 'nova-snapshot-driver'
_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ('etc', 'nova', 'nova_snapshot_driver', 'share')
_FILES = (
    'LICENSE',
    'README.rst',
    'pyproject.toml',
    'requirements.txt',
    'setup.cfg',
    'setup.py',
)

_BUILD_TIMEOUT = 300


def digest_of_checkout() -> str:
    """A digest of all that goes into the wheel."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f'{path.relative_to(_ROOT)}\0'.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def install_checkout(python: Path) -> None:
    """Install a wheel of the checkout, in the place of an earlier one.

    :param python: of an environment with what the package and its build need
    :raises LabError: the build failed
    """
    with tempfile.TemporaryDirectory() as name:
        wheel = build_wheel(python, Path(name))
        run(
            [
                *(python, '-m', 'pip', 'install', '-q', '--no-input'),
                *('--no-deps', '--force-reinstall', '--no-index'),
                *('--disable-pip-version-check', wheel),
            ],
            timeout=_BUILD_TIMEOUT,
        )


def uninstall_checkout(python: Path) -> None:
    """Uninstall the package, if it is there."""
    run(
        [
            *(python, '-m', 'pip', 'uninstall', '-q', '--yes'),
            *('--disable-pip-version-check', _PROJECT),
        ],
        timeout=_BUILD_TIMEOUT,
    )


def build_wheel(python: Path, directory: Path) -> Path:
    """Build a wheel of the checkout, and return its path.

    :param python: of an environment with what the build needs
    :param directory: for the wheel
    :raises LabError: the build failed
    """
    with tempfile.TemporaryDirectory() as name:
        # A build in the checkout would leave files there, and find files
        # there that an earlier one has left.
        source = Path(name, 'source')
        copy_checkout(source)
        run(
            [
                *(python, '-m', 'pip', 'wheel', '-q', '--no-input'),
                *('--no-deps', '--no-build-isolation', '--no-index'),
                '--disable-pip-version-check',
                *('-w', directory, source),
            ],
            environment=build_environment(),
            timeout=_BUILD_TIMEOUT,
        )
    [wheel] = directory.glob('*.whl')
    return wheel


def copy_checkout(directory: Path) -> None:
    """Copy all that goes into the wheel, and what that is built with."""
    for path in _sources():
        copy = directory / path.relative_to(_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


def build_environment() -> dict[str, str]:
    """The environment of a build in such a copy, which has no git."""
    return {'PBR_VERSION': importlib.metadata.version(_PROJECT)}


def _sources() -> Iterator[Path]:
    for name in _FILES:
        yield _ROOT / name
    for folder in _FOLDERS:
        for path in sorted((_ROOT / folder).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                yield path
