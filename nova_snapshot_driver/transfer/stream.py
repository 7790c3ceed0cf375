# SPDX-License-Identifier: Apache-2.0
"""The stream: a view is read, encoded and sent to Glance in one pass."""

from __future__ import annotations

from typing import Any

from nova_snapshot_driver.encoding import Encoding
from nova_snapshot_driver.transfer import encode
from nova_snapshot_driver.transfer import source
from nova_snapshot_driver.transfer import upload
from nova_snapshot_driver.transfer.job import Parent
from nova_snapshot_driver.transfer.job import view_from_dict
from nova_snapshot_driver.transfer.throttle import Throttle


def run(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Do one stream.

    :param job: ``view``, ``encoding``, ``image`` (its id in Glance),
        ``retries`` and ``bandwidth``
    :raises SourceUnreadable: the view, in whole or in part
    :raises UploadFailed: no attempt succeeded
    :raises ImageUnproven: Glance holds something else
    """
    view = view_from_dict(job['view'])
    with source.opened(view, Throttle(job['bandwidth'])) as disk:
        content = encode.encoded(disk, Encoding(**job['encoding']))
        digest = upload.send(content, job, parent)
        return {'size': content.size, 'sha512': digest}
