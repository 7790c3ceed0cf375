# SPDX-License-Identifier: Apache-2.0
"""The nova-api that runs, as far as a check asks it."""

from __future__ import annotations

from typing import Any

import requests_mock

from nova_snapshot_driver.cmd.check import running_api
from nova_snapshot_driver.common import version
from tests.unit.cmd.fake_keystone import NOVA_URL
from tests.unit.cmd.fake_keystone import TOKEN

EXTENSION = {'extension': {'alias': 'os-volumes'}}


def answers(
    mocker: requests_mock.Mocker,
    loaded: str | None,
    url: str = NOVA_URL,
    **how: Any,
) -> None:
    """Have nova-api answer the service user.

    :param loaded: the version of the driver that it has loaded
    :param how: the answer, if it is not that of Nova
    """
    mocker.get(
        f'{url}{running_api.REQUEST}',
        request_headers={'X-Auth-Token': TOKEN},
        headers={} if loaded is None else {version.HEADER: loaded},
        **(how or {'json': EXTENSION}),
    )
