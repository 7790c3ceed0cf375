# SPDX-License-Identifier: Apache-2.0
"""The floor: a finished image, uploaded by plain python-glanceclient.

Its environment has what an openrc has. It prints JSON: the image's id, and
the seconds from the request to the active image::

    python -m bench.floor FILE
"""

import json
import os
import sys
import time
from pathlib import Path

import glanceclient
from keystoneauth1 import session
from keystoneauth1.identity import v3


def main() -> None:
    client = glanceclient.Client('2', session=_session())
    # nova-compute has its token already.
    next(iter(client.images.list(limit=1)), None)
    began = time.monotonic()
    image = client.images.create(
        name='floor', disk_format='qcow2', container_format='bare'
    )
    with Path(sys.argv[1]).open('rb') as file:
        client.images.upload(image.id, file)
    while client.images.get(image.id).status != 'active':
        time.sleep(0.05)
    wall = time.monotonic() - began
    print(json.dumps({'image': image.id, 'wall': wall}))


def _session() -> session.Session:
    environment = os.environ
    return session.Session(
        v3.Password(
            auth_url=environment['OS_AUTH_URL'],
            username=environment['OS_USERNAME'],
            password=environment['OS_PASSWORD'],
            project_name=environment['OS_PROJECT_NAME'],
            user_domain_id='default',
            project_domain_id='default',
        )
    )


if __name__ == '__main__':
    main()
