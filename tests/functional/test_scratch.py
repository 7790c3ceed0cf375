# SPDX-License-Identifier: Apache-2.0
"""A full file system of the scratch file, which the guest does not notice.

Its own writes would fail, and QEMU stop it, if the backup job went on.
"""

from __future__ import annotations

from lab.options import GuestOptions
from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from tests.functional import base
from tests.functional import meanwhile
from tests.functional.small_file_system import SmallFileSystem

#: MiB
SIZE = 64
RESERVE = 32

#: MiB that the guest overwrites: more than there is room for.
OVERWRITTEN = 72

#: The guest overwrites a MiB, then pauses. On a real host the reserve is
#: larger, and so is the data between two looks at the space.
OVERWRITE = f"""(
    i=0
    while [ $i -lt {OVERWRITTEN} ]; do
        dd if=/dev/zero of=/data/large bs=1M count=1 seek=$i conv=notrunc
        sync
        usleep 50000
        i=$((i + 1))
    done
) >/dev/null 2>&1 &"""


class ScratchTest(base.SnapshotTest):
    options = GuestOptions('scratch')

    def setUp(self) -> None:
        super().setUp()
        self.scratch = self.directory / 'scratch'

    def small(self, size: int) -> SmallFileSystem:
        return self.useFixture(SmallFileSystem(self.scratch, size))

    def scratch_driver(self, exported: meanwhile.Exported) -> SnapshotDriver:
        """A driver that takes its time, so that it can run out of space."""
        return self.driver(
            method='backup',
            environment=exported,
            bandwidth=4,
            scratch_directory=str(self.scratch),
            scratch_reserve=RESERVE,
        )

    def is_unharmed(self) -> None:
        # The errors because of which QEMU would have stopped the guest.
        self.assertEqual({}, self.guest.domain.diskErrors())
        self.guest.still_counts()
        left = [file.name for file in self.scratch.iterdir()]
        self.assertEqual([], [name for name in left if name != 'filler'])

    def test_too_small(self) -> None:
        self.small(RESERVE - 8)
        begun: list[None] = []
        driver = self.scratch_driver(
            meanwhile.Exported(lambda: begun.append(None))
        )
        error = self.snapshot_fails(exception.NoSpace, driver)
        self.assertEqual(
            str(self.scratch), error.fields['directory'].rsplit('/', 1)[0]
        )
        self.assertIn('[snapshot] scratch_directory', str(error))
        self.assertEqual([], begun)
        self.is_unharmed()

    def test_others_fill_it(self) -> None:
        small = self.small(SIZE)
        driver = self.scratch_driver(
            meanwhile.Exported(lambda: small.fill_all_but(RESERVE // 2))
        )
        error = self.snapshot_fails(exception.ScratchFull, driver)
        self.assertEqual(RESERVE, error.fields['reserve'])
        self.assertLess(error.fields['available'], RESERVE)
        self.is_unharmed()

    def test_guest_fills_it(self) -> None:
        self.guest.agent_exec(
            f'witness fill {OVERWRITTEN} 4 >/data/large && sync', timeout=60
        )
        self.small(SIZE)
        driver = self.scratch_driver(
            meanwhile.Exported(lambda: self.guest.agent_exec(OVERWRITE))
        )
        error = self.snapshot_fails(exception.ScratchFull, driver)
        self.assertGreater(error.fields['available'], 0)
        self.is_unharmed()
