# SPDX-License-Identifier: Apache-2.0
"""nova-api on a host without guests, and so without libvirt."""

from __future__ import annotations

import json
import sys

import testtools

from lab.bounded import run

TIMEOUT = 120

#: A module that is None can't be imported. nova-api imports the line of its
#: ``api-paste.ini`` like this.
PROGRAM = """\
import json, sys
sys.modules['libvirt'] = sys.modules['libvirt_qemu'] = None
from paste.deploy.util import lookup_object
lookup_object('nova_snapshot_driver.nova.api:app_factory')
print(json.dumps([*sys.modules]))
"""


class ControllerTest(testtools.TestCase):
    def test_nova_api_needs_nothing_but_nova(self) -> None:
        """The package alone is enough there, even without its requirements."""
        said = run(
            [sys.executable, '-c', PROGRAM],
            environment={'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'true'},
            timeout=TIMEOUT,
        )
        loaded = json.loads(said.splitlines()[-1])
        self.assertEqual(
            {
                'nova_snapshot_driver',
                'nova_snapshot_driver.common',
                'nova_snapshot_driver.common.version',
                'nova_snapshot_driver.nova',
                'nova_snapshot_driver.nova.api',
                'nova_snapshot_driver.nova.presence',
            },
            {name for name in loaded if name.startswith('nova_snapshot')},
        )
