# SPDX-License-Identifier: Apache-2.0
"""``qemu-img`` without images: it knows what it is told of them."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from oslo_concurrency import processutils

MIB = 1 << 20

#: As large as the disk of ``fake_libvirt``.
SIZE = 2048 * MIB


class FakeQemuImg:
    """Stands for ``processutils.execute``.

    :ivar backing: path and format of the image beneath an image, by its
        path; the format is None where the image does not record it
    :ivar required: what ``measure`` answers, in bytes
    :ivar size: the virtual size of every image, in bytes
    :ivar error: what every call fails with
    :ivar has_drivers: all packages of QEMU are installed
    :ivar calls: all arguments so far
    """

    def __init__(self) -> None:
        self.backing: dict[str, tuple[str, str | None]] = {}
        self.required = 2 * MIB
        self.size = SIZE
        self.error: Exception | None = None
        self.has_drivers = True
        self.calls: list[tuple[str, ...]] = []

    def execute(self, *command: str, **how: Any) -> tuple[str, str]:
        assert command[0] == 'qemu-img'
        assert how['timeout'], 'this call would wait for ever'
        assert isinstance(how['prlimit'], processutils.ProcessLimits)
        self.calls.append(command)
        if self.error:
            raise self.error
        match command[1]:
            case 'create':
                *_, path, size = command
                pathlib.Path(path).write_text(f'an image of {size} bytes')
                return '', ''
            case 'measure':
                return json.dumps({'required': self.required}), ''
            case 'info' if '--image-opts' in command:
                raise processutils.ProcessExecutionError(
                    exit_code=1,
                    stderr=f"qemu-img: Could not open '{command[-1]}': "
                    + (
                        "Parameter 'pool' is missing"
                        if self.has_drivers
                        else "Unknown driver 'rbd'"
                    ),
                )
            case 'info':
                return json.dumps(self._info(command[-1])), ''
        raise AssertionError(f'nobody expected {command}')

    def _info(self, path: str) -> dict[str, Any]:
        info: dict[str, Any] = {'filename': path, 'virtual-size': self.size}
        if path in self.backing:
            backing, image_format = self.backing[path]
            info['backing-filename'] = backing
            info['full-backing-filename'] = backing
            if image_format:
                info['backing-filename-format'] = image_format
        return info
