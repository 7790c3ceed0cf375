# SPDX-License-Identifier: Apache-2.0
"""The ways to take a snapshot that are compared."""

import dataclasses

from lab.cloud.configuration import Overrides
from lab.cloud.options import CloudOptions

#: Nova's own.
NOVA_DRIVER = 'libvirt.LibvirtDriver'


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to take a snapshot: a driver of Nova, and its options."""

    name: str
    title: str
    driver: str = CloudOptions.driver
    #: the method of this driver, empty for Nova's own
    method: str = ''
    #: more options
    options: Overrides = dataclasses.field(default_factory=dict)

    @property
    def overrides(self) -> Overrides:
        """The options of nova-compute; the images are qcow2."""
        method = {('snapshot', 'method'): self.method} if self.method else {}
        return {
            ('libvirt', 'snapshot_image_format'): 'qcow2',
            **method,
            **self.options,
        }

    @property
    def has_scratch(self) -> bool:
        """Whether what the guest overwrites is all that is temporary."""
        return self.method == 'backup'


UPSTREAM = Way('upstream', "Nova's own driver", NOVA_DRIVER)
MIRROR = Way('mirror', 'mirror', method='mirror')
BACKUP = Way('backup', 'backup', method='backup')
ZSTD = Way(
    'backup-zstd',
    'backup, zstd',
    method='backup',
    options={('libvirt', 'snapshot_compression'): True},
)
#: The way of Nova's own driver for a guest on LVM.
UPSTREAM_COLD = Way(
    'upstream-cold',
    "Nova's own driver, cold",
    NOVA_DRIVER,
    options={('workarounds', 'disable_libvirt_livesnapshot'): True},
)

#: The ways of every round, in this order.
WAYS = (UPSTREAM, MIRROR, BACKUP, ZSTD)

#: The floor, without a snapshot.
FLOOR = Way(
    'floor', "the floor: a finished image, sent by Glance's own client", ''
)
