# SPDX-License-Identifier: Apache-2.0
"""The router of nova-api that has loaded this driver, and says so.

Nothing else tells from outside which ``api-paste.ini`` a nova-api has read.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from nova.api.openstack import compute

from nova_snapshot_driver.common import version


class Router(compute.APIRouterV21):
    """Nova's router, whose answers have a header more.

    Keystone's filter comes before it in ``api-paste.ini``: only those whose
    token is valid see the header.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header = (version.HEADER, version.installed())

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], *error: Any
        ) -> Any:
            return start_response(status, [*headers, self._header], *error)

        answer: Iterable[bytes] = super().__call__(environ, start)
        return answer
