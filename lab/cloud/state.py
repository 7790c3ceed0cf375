# SPDX-License-Identifier: Apache-2.0
"""The state with which a cloud was started last."""

import dataclasses
import json
from pathlib import Path
from typing import Self

from lab.cloud.options import STOCK_API
from lab.cloud.options import CloudOptions
from lab.cloud.options import Concurrency
from lab.cloud.options import Storage

# The services that depend on the kind of storage.
_STORING = {
    'cinder-api',
    'cinder-scheduler',
    'cinder-volume',
    'glance',
    'nova-api',
    'nova-compute',
    'nova-conductor',
}


# The services of Nova, which may have an environment of their own.
_NOVA = {'nova-api', 'nova-compute', 'nova-conductor', 'nova-scheduler'}


@dataclasses.dataclass(frozen=True)
class State:
    """The checkout and the options of a running cloud."""

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
        # A state of an older checkout lacks what was no option then.
        options['storage'] = Storage(options.get('storage', Storage.FILES))
        options.setdefault('app_factory', STOCK_API)
        return cls(CloudOptions(**options), state['checkout'])

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=4))

    def stale(self, after: Self) -> set[str]:
        """The names of the services that a change concerns."""
        stale: set[str] = set()
        if self.options.storage != after.options.storage:
            stale |= _STORING
        if self.options.stock != after.options.stock:
            stale |= _NOVA
        if _api(self.options) != _api(after.options):
            stale.add('nova-api')
        if self.options.token_lifetime != after.options.token_lifetime:
            # The token of nova-compute lives as long as it was issued for.
            stale |= {'keystone', 'nova-compute'}
        if self.checkout != after.checkout:
            # The driver is a part of each.
            stale |= {'nova-api', 'nova-compute'}
        if _compute(self.options) != _compute(after.options):
            stale.add('nova-compute')
        return stale


def _api(options: CloudOptions) -> tuple[object, ...]:
    """The options that concern nova-api alone."""
    return options.app_factory, options.cinder_endpoint


def _compute(options: CloudOptions) -> tuple[object, ...]:
    """The options that concern nova-compute alone."""
    return (
        options.driver,
        options.concurrency,
        options.images_type,
        options.gated,
    )
