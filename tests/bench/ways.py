# SPDX-License-Identifier: Apache-2.0
"""The ways to take a snapshot that are compared."""

import dataclasses
from collections.abc import Mapping

from tests.lab.cloud.configuration import Overrides
from tests.lab.cloud.options import CloudOptions

_UPSTREAM = 'libvirt.LibvirtDriver'


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to take a snapshot: a driver of Nova, and its options."""

    name: str
    title: str
    driver: str = CloudOptions.driver
    options: Mapping[tuple[str, str], object] = dataclasses.field(
        default_factory=dict
    )
    #: its only temporary file is what the guest overwrites meanwhile
    has_scratch: bool = False

    @property
    def overrides(self) -> Overrides:
        """The options of nova-compute; the images are qcow2."""
        return {('libvirt', 'snapshot_image_format'): 'qcow2', **self.options}


UPSTREAM = Way('upstream', "Nova's own driver", _UPSTREAM)
MIRROR = Way('mirror', 'mirror', options={('snapshot', 'path'): 'mirror'})
BACKUP = Way(
    'backup',
    'backup',
    options={('snapshot', 'path'): 'backup'},
    has_scratch=True,
)
ZSTD = Way(
    'backup-zstd',
    'backup, zstd',
    options={
        ('snapshot', 'path'): 'backup',
        ('libvirt', 'snapshot_compression'): True,
    },
    has_scratch=True,
)
#: What Nova's own driver does with a guest on LVM.
UPSTREAM_COLD = Way(
    'upstream-cold',
    "Nova's own driver, cold",
    _UPSTREAM,
    {('workarounds', 'disable_libvirt_livesnapshot'): True},
)

#: Those of every round, in this order.
WAYS = (UPSTREAM, MIRROR, BACKUP, ZSTD)

#: No snapshot: a finished image, uploaded by plain python-glanceclient.
FLOOR = Way('floor', 'the floor: the upload alone', '')
