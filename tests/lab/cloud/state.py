# SPDX-License-Identifier: Apache-2.0
"""What a cloud was started with last."""

import dataclasses
import json
from pathlib import Path
from typing import Self

from tests.lab.cloud.options import CloudOptions
from tests.lab.cloud.options import Concurrency
from tests.lab.cloud.options import Storage

# What is configured for Ceph and Cinder, and Cinder.
_STORING = {
    'cinder-api',
    'cinder-scheduler',
    'cinder-volume',
    'glance',
    'nova-api',
    'nova-compute',
    'nova-conductor',
}


@dataclasses.dataclass(frozen=True)
class State:
    """What whatever runs of a cloud was started with."""

    options: CloudOptions
    #: the digest of the checkout that was installed
    checkout: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return that in the file *path*, None if there is none."""
        if not path.exists():
            return None
        state = json.loads(path.read_text())
        options = state['options']
        options['concurrency'] = Concurrency(options['concurrency'])
        # It may be from a time when there was no choice.
        options['storage'] = Storage(options.get('storage', Storage.FILES))
        return cls(CloudOptions(**options), state['checkout'])

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=4))

    def stale(self, after: Self) -> set[str]:
        """The names of the services that a change concerns."""
        stale: set[str] = set()
        if self.options.storage != after.options.storage:
            stale |= _STORING
        if _api(self.options) != _api(after.options):
            stale.add('nova-api')
        if self.options.token_lifetime != after.options.token_lifetime:
            # nova-compute has a token already, which lasts as it was made.
            stale |= {'keystone', 'nova-compute'}
        if self.checkout != after.checkout:
            # The driver has a part in each.
            stale |= {'nova-api', 'nova-compute'}
        if _compute(self.options) != _compute(after.options):
            stale.add('nova-compute')
        return stale


def _api(options: CloudOptions) -> tuple[object, ...]:
    """What concerns nova-api alone."""
    return options.app_factory, options.cinder_endpoint


def _compute(options: CloudOptions) -> tuple[object, ...]:
    """What concerns nova-compute alone."""
    return (
        options.driver,
        options.concurrency,
        options.images_type,
        options.gated,
    )
