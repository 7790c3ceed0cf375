# SPDX-License-Identifier: Apache-2.0
"""The data plane without a process: what it would do, at once."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.domain import Layer
from nova_snapshot_driver.image import GlanceAccess
from nova_snapshot_driver.progress import Progress
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import Request

CONTENT = b'the disk at one instant'


class FakeDataPlane:
    """Stands for ``transfer.process``.

    :ivar at_extract: called when an extraction is half done; raises what it
        is to fail with
    :ivar at_upload: the same, before an upload
    :ivar view: what was extracted last
    :ivar target: what it was extracted to
    :ivar compress: and how
    :ivar cancellation: by which it is told to stop
    :ivar accesses: what it was told of Glance when it asked
    """

    def __init__(self, glance: FakeGlance) -> None:
        self._glance = glance
        self.at_extract: Callable[[], object] = lambda: None
        self.at_upload: Callable[[], object] = lambda: None
        self.view: Layer | None = None
        self.target: Layer | None = None
        self.compress: bool | None = None
        self.cancellation: Cancellation | None = None
        self.accesses: list[GlanceAccess] = []

    def extract(
        self,
        view: Layer,
        target: Layer,
        compress: bool,
        timeout: int,
        progress: Progress,
        cancellation: Cancellation,
    ) -> None:
        self.view, self.target, self.compress = view, target, compress
        self.cancellation = cancellation
        file = pathlib.Path(target.path)
        file.write_bytes(CONTENT[:10])
        self.at_extract()
        cancellation.check()
        file.write_bytes(CONTENT)
        progress('extract', 1, 1)

    def upload(
        self,
        path: str,
        image: str,
        glance_access: Callable[[], GlanceAccess],
        retries: int,
        timeout: int,
        progress: Progress,
        cancellation: Cancellation,
    ) -> str:
        self.at_upload()
        cancellation.check()
        self.accesses.append(glance_access())
        content = pathlib.Path(path).read_bytes()
        headers: dict[str, Any] = {}
        self._glance.answer(
            Request('PUT', f'/v2/images/{image}/file', headers, content)
        )
        cancellation.check()
        return hashlib.sha512(content).hexdigest()
