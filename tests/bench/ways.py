# SPDX-License-Identifier: Apache-2.0
"""The ways to take a snapshot that are compared."""

import dataclasses

from tests.lab.cloud.configuration import Overrides
from tests.lab.cloud.options import CloudOptions

#: Nova's own.
NOVA_DRIVER = 'libvirt.LibvirtDriver'


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to take a snapshot: a driver of Nova, and its options."""

    name: str
    title: str
    driver: str = CloudOptions.driver
    #: one of this driver's; none with Nova's own
    path: str = ''
    #: more options
    options: Overrides = dataclasses.field(default_factory=dict)

    @property
    def overrides(self) -> Overrides:
        """The options of nova-compute; the images are qcow2."""
        path = {('snapshot', 'path'): self.path} if self.path else {}
        return {
            ('libvirt', 'snapshot_image_format'): 'qcow2',
            **path,
            **self.options,
        }

    @property
    def has_scratch(self) -> bool:
        """Whether what the guest overwrites is all that is temporary."""
        return self.path == 'backup'


UPSTREAM = Way('upstream', "Nova's own driver", NOVA_DRIVER)
MIRROR = Way('mirror', 'mirror', path='mirror')
BACKUP = Way('backup', 'backup', path='backup')
ZSTD = Way(
    'backup-zstd',
    'backup, zstd',
    path='backup',
    options={('libvirt', 'snapshot_compression'): True},
)
#: What Nova's own driver does with a guest on LVM.
UPSTREAM_COLD = Way(
    'upstream-cold',
    "Nova's own driver, cold",
    NOVA_DRIVER,
    options={('workarounds', 'disable_libvirt_livesnapshot'): True},
)

#: Those of every round, in this order.
WAYS = (UPSTREAM, MIRROR, BACKUP, ZSTD)

#: No snapshot: a finished image, uploaded by plain python-glanceclient.
FLOOR = Way('floor', 'the floor: the upload alone', '')
