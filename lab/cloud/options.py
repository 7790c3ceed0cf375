# SPDX-License-Identifier: Apache-2.0
"""The options of a cloud."""

import dataclasses
import enum

from lab.cloud.install import NOVA
from lab.errors import LabError

# The first release in which the concurrency is an option.
_CONCURRENCY_IS_AN_OPTION = 34

#: Nova's own ``compute_driver``.
STOCK_DRIVER = 'libvirt.LibvirtDriver'

#: Nova's own ``paste.app_factory``.
STOCK_API = 'nova.api.openstack.compute:APIRouterV21.factory'

#: The driver's factory, which leaves volume-backed servers to their hosts.
DRIVER_API = 'nova_snapshot_driver.nova.api:app_factory'


class Concurrency(enum.StrEnum):
    """The threads of nova-compute: native ones or eventlet's."""

    THREADING = 'threading'
    EVENTLET = 'eventlet'


class Storage(enum.StrEnum):
    """The places where a cloud can store its data."""

    #: in files of this machine
    FILES = 'files'
    #: in Ceph too, where the images are, and volumes: there is a Cinder
    CEPH = 'ceph'


@dataclasses.dataclass(frozen=True)
class CloudOptions:
    """The options of a cloud.

    :raises LabError: they contradict each other
    """

    #: nova-compute's ``compute_driver``
    driver: str = 'snapshot_driver.LibvirtSnapshotDriver'
    concurrency: Concurrency = Concurrency.THREADING
    #: seconds for which Keystone's tokens are valid
    token_lifetime: int = 3600
    #: the version of Nova
    nova: str = NOVA
    storage: Storage = Storage.FILES
    #: Nova's ``images_type``, of the root disks of servers without a volume;
    #: ``rbd`` is in Ceph alone
    images_type: str = 'qcow2'
    #: the ``paste.app_factory`` of nova-api
    app_factory: str = DRIVER_API
    #: the ``endpoint_template`` by which nova-api reaches Cinder; empty: it
    #: goes by the catalog
    cinder_endpoint: str = ''
    #: nova-compute stands still where a test wants it to
    gated: bool = False
    #: Nova has an environment of its own, without the driver
    stock: bool = False

    def __post_init__(self) -> None:
        ours = (self.driver, self.app_factory) != (STOCK_DRIVER, STOCK_API)
        if self.stock and ours:
            raise LabError(
                'a stock Nova has neither this driver nor its nova-api'
            )
        if self.images_type == 'rbd' and not self.has_ceph:
            raise LabError('root disks of the type rbd need --storage ceph')

    @property
    def has_ceph(self) -> bool:
        return self.storage == Storage.CEPH

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a nova-compute without ``concurrency_backend``."""
        if int(self.nova.split('.')[0]) >= _CONCURRENCY_IS_AN_OPTION:
            return {}
        is_threading = self.concurrency is Concurrency.THREADING
        return {'OS_NOVA_DISABLE_EVENTLET_PATCHING': str(is_threading).lower()}
