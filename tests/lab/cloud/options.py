# SPDX-License-Identifier: Apache-2.0
"""What a cloud is like."""

import dataclasses
import enum

from tests.lab.cloud.install import NOVA

# The first release in which the concurrency is an option.
_CONCURRENCY_IS_AN_OPTION = 34


class Concurrency(enum.StrEnum):
    """What nova-compute runs on."""

    THREADING = 'threading'
    EVENTLET = 'eventlet'


@dataclasses.dataclass(frozen=True)
class CloudOptions:
    """What a cloud is like."""

    #: nova-compute's ``compute_driver``
    driver: str = 'snapshot_driver.LibvirtSnapshotDriver'
    concurrency: Concurrency = Concurrency.THREADING
    #: seconds for which Keystone's tokens are valid
    token_lifetime: int = 3600
    #: the version of Nova
    nova: str = NOVA

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a nova-compute without ``concurrency_backend``."""
        if int(self.nova.split('.')[0]) >= _CONCURRENCY_IS_AN_OPTION:
            return {}
        is_threading = self.concurrency is Concurrency.THREADING
        return {'OS_NOVA_DISABLE_EVENTLET_PATCHING': str(is_threading).lower()}
