# SPDX-License-Identifier: Apache-2.0
"""What Nova asks Neutron for a server without ports: nothing is there."""

import json
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Answer every request with an empty collection of its name."""
    _, _, path = environ['PATH_INFO'].lstrip('/').partition('/')
    collection = path.split('/')[0].removesuffix('.json').replace('-', '_')
    body = json.dumps({collection or 'versions': []}).encode()
    start_response(
        '200 OK',
        [
            ('Content-Type', 'application/json'),
            ('Content-Length', str(len(body))),
        ],
    )
    return [body]
