# SPDX-License-Identifier: Apache-2.0
"""A Ceph cluster, as far as ``rbd`` and ``ceph`` tell of it.

It stands at the boundary of ``rbd.py``: what it refuses, it refuses with the
exit status and the words of Ceph 16.2.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
from collections.abc import Callable
from typing import Any
from typing import NoReturn

from oslo_concurrency import processutils

CLUSTER = '2bed3e4d-3a03-4f76-bb55-e5ce358310df'
MIB = 1 << 20


@dataclasses.dataclass
class Image:
    """An image in a pool.

    :ivar parent: pool, image and snapshot that it needs
    :ivar snapshots: by name, whether it is protected
    :ivar openings: how often it is still found to be open
    """

    size: int = 2048 * MIB
    parent: tuple[str, str, str] | None = None
    snapshots: dict[str, bool] = dataclasses.field(default_factory=dict)
    openings: int = 0


class FakeCeph:
    """
    :ivar images: by pool and name
    :ivar read_only: pools in which the user may not write
    :ivar closed: those into which he may not even look
    :ivar troubles: what goes wrong instead of a command, by its number
        from 1 on
    :ivar late_troubles: the same, and the command has had its effect
    :ivar at_command: called before each, with its name
    :ivar commands: the names so far; :ivar calls: with their arguments
    :ivar is_installed: there are such commands
    """

    def __init__(self) -> None:
        self.images: dict[tuple[str, str], Image] = {}
        self.read_only: set[str] = set()
        self.closed: set[str] = set()
        self.troubles: dict[int, Callable[[], None]] = {}
        self.late_troubles: dict[int, Callable[[], None]] = {}
        self.at_command: Callable[[str], object] = lambda _name: None
        self.commands: list[str] = []
        self.calls: list[tuple[str, ...]] = []
        self.is_installed = True

    def add(self, pool: str, name: str, **fields: Any) -> Image:
        self.images[pool, name] = image = Image(**fields)
        return image

    def delete_as_glance(self, url: str) -> None:
        """Delete the data of an image as Glance does."""
        _cluster, pool, name, _snapshot = url.removeprefix('rbd://').split('/')
        self.images.pop((pool, name), None)

    def leftovers(self) -> list[str]:
        """Snapshots and clones of ours, in words."""
        found = []
        for (pool, name), image in self.images.items():
            for snapshot in image.snapshots:
                if snapshot.startswith('nova-snapshot-'):
                    found.append(f'in Ceph: {pool}/{name}@{snapshot}')
            if image.parent and image.parent[2].startswith('nova-snapshot-'):
                found.append(f'in Ceph: the clone {pool}/{name}')
        return found

    # As the commands

    def execute(self, *command: str, **how: Any) -> tuple[str, str]:
        """Stands for ``processutils.execute``."""
        assert how['timeout'], 'this call would wait for ever'
        assert how['on_completion'], 'nobody would end it'
        assert not any('key' in argument for argument in command)
        if not self.is_installed:
            raise FileNotFoundError(command[0])
        program, *arguments = command
        words = [program]
        while arguments and not arguments[0].startswith('-'):
            words.append(arguments.pop(0))
        return self.run(' '.join(words), arguments), ''

    def run(self, name: str, arguments: list[str]) -> str:
        self.at_command(name)
        self.commands.append(name)
        self.calls.append((name, *arguments))
        number = len(self.commands)
        if number in self.troubles:
            self.troubles[number]()
        options = dict(zip(arguments[::2], arguments[1::2], strict=True))
        answer = self._run(name, options)
        if number in self.late_troubles:
            self.late_troubles[number]()
        return (
            json.dumps(answer) if isinstance(answer, dict | list) else answer
        )

    def _run(self, name: str, options: dict[str, str]) -> Any:
        if name == 'ceph fsid':
            return f'{CLUSTER}\n'
        key = options['--pool'], options['--image']
        if key[0] in self.closed:
            deny()
        if name == 'rbd rm':
            # Ceph checks the permission before it looks for the image.
            self._may_write(key[0])
        image = self.images.get(key)
        if image is None:
            fail(
                errno.ENOENT,
                f'rbd: error opening image {key[1]}: (2) No such file or '
                'directory',
            )
        snapshot = options.get('--snap', '')
        match name.removeprefix('rbd '):
            case 'info':
                return self._info(key, image)
            case 'snap ls':
                return [
                    {'name': each, 'protected': str(protected).lower()}
                    for each, protected in image.snapshots.items()
                ]
            case 'snap create':
                self._may_write(key[0])
                if snapshot in image.snapshots:
                    fail(errno.EEXIST, 'rbd: failed to create snapshot')
                image.snapshots[snapshot] = False
            case 'snap protect':
                if image.snapshots[snapshot]:
                    fail(errno.EBUSY, 'rbd: snap is already protected')
                image.snapshots[snapshot] = True
            case 'snap unprotect':
                if any(
                    each.parent == (*key, snapshot)
                    for each in self.images.values()
                ):
                    fail(errno.EBUSY, 'rbd: unprotecting snap failed')
                image.snapshots[snapshot] = False
            case 'snap rm':
                if image.snapshots[snapshot]:
                    fail(errno.EBUSY, 'rbd: snapshot is protected')
                del image.snapshots[snapshot]
            case 'clone':
                self._clone(key, image, options)
            case 'flatten':
                if image.parent is None:
                    fail(errno.EINVAL, 'rbd: flatten error')
                image.parent = None
            case 'rm':
                if image.snapshots:
                    fail(errno.ENOTEMPTY, 'rbd: image has snapshots')
                if image.openings:
                    image.openings -= 1
                    fail(errno.EBUSY, 'rbd: error: image still has watchers')
                del self.images[key]
            case _:
                raise AssertionError(f'nobody expected {name}')
        return ''

    def _info(self, key: tuple[str, str], image: Image) -> dict[str, Any]:
        info: dict[str, Any] = {'name': key[1], 'size': image.size}
        if image.parent:
            pool, name, snapshot = image.parent
            info['parent'] = {
                'pool': pool,
                'pool_namespace': '',
                'image': name,
                'snapshot': snapshot,
            }
        return info

    def _clone(
        self, key: tuple[str, str], image: Image, options: dict[str, str]
    ) -> None:
        child = options['--dest-pool'], options['--dest']
        assert image.snapshots[options['--snap']], 'it is not protected'
        if child in self.images:
            fail(errno.EEXIST, 'rbd: clone error: (17) File exists')
        self._may_write(child[0])
        self.images[child] = Image(
            image.size, parent=(*key, options['--snap'])
        )

    def _may_write(self, pool: str) -> None:
        if pool in self.read_only | self.closed:
            deny()


def deny() -> NoReturn:
    """Fail with a denied permission."""
    fail(errno.EPERM, 'rbd: error: (1) Operation not permitted')


def fail(status: int, words: str = '') -> NoReturn:
    """Fail as a command does."""
    raise processutils.ProcessExecutionError(
        exit_code=status,
        stderr=f'2026-11-27T22:30:38.728+0000 7f46 -1 librbd: -{status}\n'
        + (words or f'rbd: error: ({status}) {os.strerror(status)}'),
    )


def be_silent() -> NoReturn:
    """Fail as a command that does not end in time."""
    raise subprocess.TimeoutExpired('rbd', 60)
