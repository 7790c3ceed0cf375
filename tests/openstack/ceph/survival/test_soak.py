# SPDX-License-Identifier: Apache-2.0
"""Many snapshots of several servers at once, of which some are disturbed."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import resource
import time
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import ClassVar

from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image
from testtools.content import text_content

from lab.bounded import wait_until
from lab.errors import LabTimeout
from lab.proxy import Cut
from lab.proxy import Flip
from tests import exhaustive
from tests.openstack.ceph.strays import strays
from tests.openstack.ceph.survival import cases
from tests.openstack.ceph.survival import results
from tests.openstack.ceph.survival import victims
from tests.openstack.ceph.survival.base import SETTLE_TIMEOUT
from tests.openstack.ceph.survival.base import SurvivalTest
from tests.openstack.ceph.survival.results import GONE
from tests.openstack.ceph.survival.results import PROVEN
from tests.openstack.held import HeldTest

SERVERS = 4

#: How many snapshots there are, and how many where cases are drawn.
ALL_SNAPSHOTS = 100
FEW_SNAPSHOTS = 8

#: The number of snapshots of which one is disturbed.
EVERY = 10

#: The disturbances after which Glance may leave data in its store: the part
#: that it had received when it died, and all of an image that somebody has
#: deleted as its upload ended.
OF_GLANCE = ('glance-api', 'image deleted')

#: Seconds from the request to the disturbance, at most.
LATEST = 3.0

#: The growth that is allowed to nova-compute: its own pools fill up, by one
#: thread for a task that comes while the others are busy.
GROWTH = {'MiB': 40, 'threads': 16, 'files': 16}

MIB = 1 << 20

#: Of an image; a fault beyond that meets nobody.
LARGEST = 100 * MIB


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """Something that happens to a snapshot.

    :ivar kind: one of ``SoakTest.kinds``
    :ivar pause: seconds after the request
    :ivar offset: the byte of the image which it happens to, if to any
    """

    kind: str
    pause: float
    offset: int


class SoakTest(HeldTest):
    cloud_options: ClassVar[dict[str, Any]] = SurvivalTest.cloud_options
    servers: ClassVar[list[Server]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.servers = cls.boot_several(SERVERS)

    def test_soak(self) -> None:
        number = ALL_SNAPSHOTS if cases.wants_all() else FEW_SNAPSHOTS
        self.addDetail('seed', text_content(exhaustive.seed()))
        self._strays = strays(self.cloud.ceph, self.admin.image)
        lot = random.Random(f'{exhaustive.seed()} soak')
        disturbed = {
            lot.randrange(first, min(first + EVERY, number)): self.disturbance(
                lot
            )
            for first in range(0, number, EVERY)
        }
        # Warm up: caches and pools are filled by the first round.
        self.round({})
        before = self.weight()
        ends: list[str] = []
        for first in range(0, number, SERVERS):
            ends += self.round(
                {
                    each - first: disturbed[each]
                    for each in range(first, first + SERVERS)
                    if each in disturbed
                }
            )
        after = self.weight()
        kinds = ', '.join(each.kind for each in disturbed.values())
        results.say(
            f'soak: {len(ends)} snapshots of {SERVERS} servers, '
            f'{len(disturbed)} disturbed ({kinds}): '
            f'{ends.count(PROVEN)} proven, {ends.count(GONE)} failed, '
            f'their images gone; nova-compute had {before}, has {after}'
        )
        for what, most in GROWTH.items():
            self.assertLessEqual(after[what] - before[what], most, what)

    def round(self, disturbed: Mapping[int, Disturbance]) -> list[str]:
        """Snapshot all servers at once.

        :param disturbed: what disturbs whom, by the numbers of the servers
        :returns: what came of the images
        """
        earliest = [self.records(server) for server in self.servers]
        before = [self.before(server) for server in self.servers]
        images = [self.ask_for_snapshot(server) for server in self.servers]
        for which, disturbance in disturbed.items():
            self.disturb(disturbance, self.servers[which], images[which])
        ends = [
            self.end(server, image, record)
            for server, image, record in zip(
                self.servers, images, earliest, strict=True
            )
        ]
        # A fault that has met nobody is not for the next round.
        self.proxy.heal()
        if not disturbed:
            self.assertEqual([PROVEN] * SERVERS, ends)
        for each in before:
            self.assert_as_before(each)
        if any(each.kind in OF_GLANCE for each in disturbed.values()):
            # The data that Glance has not removed is its own affair.
            self._strays |= {f'images/{image.id}' for image in images}
        self.assert_glance_is_clean()
        return ends

    def assert_glance_is_clean(self) -> None:
        """Data that has not become an image goes, if not at once."""
        left: set[str] = set()

        def is_clean() -> bool:
            left.clear()
            left.update(strays(self.cloud.ceph, self.admin.image))
            return left <= self._strays

        with contextlib.suppress(LabTimeout):
            wait_until(is_clean, 'Glance to be clean', SETTLE_TIMEOUT, 0.5)
        self.assertEqual(set(), left - self._strays)

    def end(self, server: Server, image: Image, earliest: int) -> str:
        """Wait for a snapshot, prove its image, and delete that.

        :returns: what came of it
        """
        self.wait_for_no_task(server.id)
        # By its type it may be one of version 1.
        found: Any = self.admin.image.find_image(image.id)
        if found is None or found.status != 'active':
            self.wait_until_gone(image)
            return GONE
        self.examine(found, earliest)
        self.admin.image.delete_image(image.id)
        return PROVEN

    # Disturbances

    def disturbance(self, lot: random.Random) -> Disturbance:
        return Disturbance(
            lot.choice(sorted(self.kinds())),
            lot.uniform(0, LATEST),
            lot.randrange(LARGEST),
        )

    def kinds(self) -> dict[str, Callable[[Disturbance, Server, Image], None]]:
        return {
            'data plane': self.kill,
            'libvirtd': self.kill,
            'glance-api': self.kill,
            'image deleted': self.delete_image,
            'connection cut': lambda d, _s, _i: self.proxy.inject(
                Cut(d.offset), 1
            ),
            'bit flipped': lambda d, _s, _i: self.proxy.inject(
                Flip(d.offset), 1
            ),
        }

    def disturb(
        self, disturbance: Disturbance, server: Server, image: Image
    ) -> None:
        time.sleep(disturbance.pause)
        self.kinds()[disturbance.kind](disturbance, server, image)

    def kill(
        self, disturbance: Disturbance, server: Server, _image: Image
    ) -> None:
        kill = victims.VICTIMS[disturbance.kind]
        kill(self.cloud, self._domain_name(server))
        victims.revive(self.cloud)

    def delete_image(
        self, _disturbance: Disturbance, _server: Server, image: Image
    ) -> None:
        self.demo.image.delete_image(image.id)

    # The use of nova-compute

    def weight(self) -> dict[str, int]:
        process = Path('/proc', str(self.cloud.compute.pid))
        pages = int((process / 'statm').read_text().split()[1])
        return {
            'MiB': pages * resource.getpagesize() // MIB,
            'threads': len(list((process / 'task').iterdir())),
            'files': len(list((process / 'fd').iterdir())),
        }
