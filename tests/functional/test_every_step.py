# SPDX-License-Identifier: Apache-2.0
"""Every call to the real libvirt goes wrong once, and the laws hold.

The same table as in ``tests/unit/test_every_fault.py``, where it is run on a
fake under many more circumstances. All calls go wrong where
``NOVA_SNAPSHOT_EXHAUSTIVE`` is set, and elsewhere those that are drawn by lot.
"""

from __future__ import annotations

from lab.options import GuestOptions
from tests.functional import steps


class BackupTest(steps.EveryStep):
    options = GuestOptions('backup-steps')
    path = 'backup'


class MirrorTest(steps.EveryStep):
    options = GuestOptions('mirror-steps')
    path = 'mirror'


class ColdTest(steps.EveryStep):
    options = GuestOptions('cold-steps')
    path = 'cold'
