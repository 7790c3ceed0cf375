# SPDX-License-Identifier: Apache-2.0
"""Servers that boot from a volume, in a real Ceph, and their snapshots."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import json
import subprocess
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any
from typing import ClassVar

import libvirt
from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.image.v2.image import Image
from testtools.content import text_content

from lab.bounded import run
from lab.bounded import wait_until
from lab.cloud.command import VOLUME_COMMANDS
from lab.cloud.command import usage
from lab.cloud.configuration import Overrides
from lab.cloud.content import LUKS
from lab.cloud.content import MULTIATTACH
from lab.cloud.content import RAW_IMAGE
from lab.cloud.content import volumes_to_boot_from
from lab.cloud.options import STOCK_API
from lab.cloud.options import Storage
from lab.cloud.storage import OTHER_ZONE
from tests import laws
from tests.openstack import base
from tests.openstack.ceph.cinder_proxy import CinderProxy
from tests.openstack.ceph.disks import disks_in_ceph

VOLUME_TIMEOUT = 120

#: How many cuts have to be possible, in a row.
CUTS = 8

#: Of so many cuts one is impossible, where no guest is held.
FEW_CUTS = 5

#: The seconds between two requests to Cinder that are to show what a guest
#: that runs does in between.
SPACING = 0.5

#: The volumes that the guest writes to, beside that of its root disk.
DATA = ('vdb', 'vdc', 'vdd', 'vde')

#: Volumes that Cinder makes otherwise than by default.
KINDS: tuple[dict[str, str], ...] = (
    {'volume_type': MULTIATTACH},
    {'availability_zone': OTHER_ZONE},
    {'volume_type': LUKS},
)

#: Seconds in which a guest goes on that may stand still no longer.
GOES_ON = 8

#: Rights in Ceph with which Cinder's user can make nothing.
READS = 'profile rbd-read-only pool=volumes'

#: Seconds for which Ceph is full: longer than the guest may stand still, and
#: than Cinder's scheduler takes to be told; shorter than anything of it is
#: given up.
FULL = 15

#: The sector that is written: the first sector of one volume is the witness's.
SECTOR = 2048

#: Nobody else writes meanwhile: neither the witness, which takes the start of
#: the last volume for itself, nor an earlier writer.
END = f"""\
killall witness
if [ -f /run/writer ]; then
    kill $(cat /run/writer)
    rm /run/writer
    sleep 1
fi
for disk in {' '.join(DATA)}; do
    ! grep -q "^/dev/$disk " /proc/mounts || umount /dev/$disk
done
"""

MAKE_FILE_SYSTEMS = f"""\
for disk in {' '.join(DATA)}; do
    mke2fs /dev/$disk
    mkdir -p /volumes/$disk
    mount -t ext4 /dev/$disk /volumes/$disk
done
"""

WRITER = """\
echo $$ >/run/writer
n=0
while :; do
    n=$((n + 1))
    write $n
done
"""


@dataclasses.dataclass(frozen=True)
class Writing:
    """How the guest writes to its data volumes.

    It writes a number to the first one, then to the next one, and so on, and
    then the next number. In what was cut at one instant no volume is ahead of
    one before it.

    :ivar prepare: what is done to the volumes before
    :ivar place: where ``dd`` writes to ``$disk``
    :ivar read: what there is of it in a file with the content of a volume
    """

    prepare: str
    place: str
    read: Callable[[Path], int]

    @property
    def write(self) -> str:
        return f"""\
write() {{
    for disk in {' '.join(DATA)}; do
        printf '%-512s' $1 | dd {self.place} bs=512 conv=notrunc,fsync
    done 2>/dev/null
}}
"""


def read_sector(volume: Path) -> int:
    with volume.open('rb') as file:
        file.seek(SECTOR * 512)
        return int(file.read(512))


def read_file(volume: Path) -> int:
    command: list[str | Path] = ['debugfs', '-R', 'cat /number', volume]
    # The version of the tool comes first.
    return int(run(command, timeout=VOLUME_TIMEOUT).split()[-1])


TO_DEVICES = Writing('', f'of=/dev/$disk seek={SECTOR}', read_sector)
TO_FILES = Writing(MAKE_FILE_SYSTEMS, 'of=/volumes/$disk/number', read_file)


@functools.cache
def cinder_proxy() -> CinderProxy:
    """The only proxy: nova-compute would be restarted for another one."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(CinderProxy(base.running_cloud().cinder_url))


class VolumesTest(base.CloudTest):
    """Tests with servers that boot from volumes.

    nova-compute reaches Cinder through a proxy.
    """

    cloud_options: ClassVar[dict[str, Any]] = {'storage': Storage.CEPH}
    proxy: ClassVar[CinderProxy]

    @classmethod
    def setUpClass(cls) -> None:
        cls.proxy = cinder_proxy()
        cls.nova_compute = {
            **cls.nova_compute,
            ('cinder', 'endpoint_template'): cls.proxy.endpoint_template,
        }
        super().setUpClass()

    def setUp(self) -> None:
        super().setUp()
        self.proxy.heal()
        self.addCleanup(self.proxy.heal)
        # By its type it may be one of version 2.
        self.cinder: Any = self.demo.block_storage

    # Servers

    @classmethod
    def boot_from_volume(cls, data: int = 0, **attributes: Any) -> Server:
        """A server with a volume as its root disk, and empty ones beside."""
        image = cls.demo.image.find_image(RAW_IMAGE, ignore_missing=False)
        return cls.boot(
            RAW_IMAGE,
            image_id='',
            block_device_mapping=volumes_to_boot_from(image.id, data),
            **attributes,
        )

    def new_server_from_volume(
        self, data: int = 0, **attributes: Any
    ) -> Server:
        server = self.boot_from_volume(data, **attributes)
        self.addCleanup(self.delete, server)
        return server

    def volumes_of(self, server: Server) -> list[str]:
        """The ids of its volumes, by the names of their devices."""
        found = {
            attachment.device: attachment.volume_id
            for attachment in self.admin.compute.volume_attachments(server)
        }
        return [found[device] for device in sorted(found)]

    def new_volume(self, **attributes: str) -> str:
        """The id of an empty one that is deleted after the test."""
        volume: str = self.cinder.create_volume(size=1, **attributes).id
        self.addCleanup(self.cinder.delete_volume, volume)
        self.wait_for_volume(volume, 'available')
        return volume

    def wait_for_volume(self, volume: str, status: str) -> None:
        """Wait until a volume, by its id, has a status."""
        self.cinder.wait_for_status(
            self.cinder.get_volume(volume),
            status,
            ['error'],
            0.3,
            VOLUME_TIMEOUT,
        )

    # Snapshots

    def snapshot(self, server: Server, *args: Any, **metadata: Any) -> Image:
        """Snapshot a server; the image does not say whose task has to end."""
        image = super().snapshot(server, *args, **metadata)
        self.wait_for_no_task(server.id)
        return image

    def wait_for_image(self, image: Image, connection: Any = None) -> Image:
        """Wait until an image is active."""
        glance: Any = (connection or self.demo).image
        active: Image = glance.wait_for_status(
            glance.get_image(image.id),
            status='active',
            failures=['killed', 'deleted'],
            interval=0.3,
            wait=base.SNAPSHOT_TIMEOUT,
        )
        self.addCleanup(self.delete_snapshots, self.mapping(active))
        return active

    @staticmethod
    def mapping(image: Image) -> list[dict[str, Any]]:
        mapping: list[dict[str, Any]] = json.loads(
            image.properties['block_device_mapping']
        )
        return mapping

    def delete_snapshots(self, mapping: list[dict[str, Any]]) -> None:
        """Have Cinder delete them; :meth:`delete` waits for that."""
        admin: Any = self.admin.block_storage
        for each in mapping:
            if each['snapshot_id']:
                admin.delete_snapshot(each['snapshot_id'])

    @classmethod
    def delete(cls, server: Server) -> None:
        """Delete a server, and its volumes, which no snapshot needs now."""
        admin: Any = cls.admin.block_storage
        wait_until(
            lambda: all(
                snapshot.status != 'deleting'
                for snapshot in admin.snapshots(all_projects=True)
            ),
            'Cinder to have deleted snapshots',
            VOLUME_TIMEOUT,
            0.3,
        )
        super().delete(server)

    @staticmethod
    def _wait_until_none(find: Callable[[str], object], thing: str) -> None:
        """Wait until Cinder does not have something, by its id."""
        wait_until(
            lambda: find(thing) is None,
            f'{thing} to be gone',
            VOLUME_TIMEOUT,
            0.3,
        )

    def snapshots_of(self, volumes: list[str]) -> list[str]:
        """The volumes that have a snapshot, once for each."""
        admin: Any = self.admin.block_storage
        return [
            snapshot.volume_id
            for snapshot in admin.snapshots(all_projects=True)
            if snapshot.volume_id in volumes
        ]

    def cut(self, image: Image, writing: Writing) -> list[int]:
        """The numbers that the data volumes have in an image."""
        snapshots = {
            each['device_name']: each['snapshot_id']
            for each in self.mapping(image)
        }

        def number(disk: str) -> int:
            return self._number(snapshots[f'/dev/{disk}'], writing)

        with futures.ThreadPoolExecutor() as pool:
            return list(pool.map(number, DATA))

    def _number(self, snapshot_id: str, writing: Writing) -> int:
        # Upstream waits for none.
        snapshot: Any = self.cinder.wait_for_status(
            self.cinder.get_snapshot(snapshot_id),
            'available',
            ['error'],
            0.3,
            VOLUME_TIMEOUT,
        )
        path = self.directory / snapshot.id
        self.cloud.ceph.rbd(
            'export',
            f'volumes/volume-{snapshot.volume_id}@snapshot-{snapshot.id}',
            path,
        )
        number = writing.read(path)
        path.unlink()
        return number

    def by_upstream(self, **others: Any) -> None:
        """Have Nova's own nova-api until the end of the test.

        :param others: options of the cloud
        """
        options = {**self.cloud_options, 'app_factory': STOCK_API, **others}
        self.addCleanup(
            self.cloud.ensure,
            base.options(**self.cloud_options),
            self.nova_compute,
        )
        self.cloud.ensure(base.options(**options), self.nova_compute)

    def configure(self, overrides: Overrides) -> None:
        """Give nova-compute further options until the end of the test."""
        self.addCleanup(self.cloud.configure_compute, self.nova_compute)
        self.cloud.configure_compute({**self.nova_compute, **overrides})
        self.log = self.cloud.log('nova-compute')


def is_possible(numbers: list[int]) -> bool:
    """Whether the numbers were on the disks at one instant."""
    return (
        sorted(numbers, reverse=True) == numbers
        and numbers[0] - numbers[-1] <= 1
    )


class CutsTest(VolumesTest):
    """A guest writes in strict order over four volumes."""

    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot_from_volume(len(DATA))
        cls.addClassCleanup(cls.delete, cls.server)

    def write(self, writing: Writing) -> None:
        """Have the guest write until the end of the test."""
        begin = f'{END}\nset -e\n{writing.prepare}\n{writing.write}\nwrite 0'
        self.run_in_guest(self.server, begin)
        self.ask_agent(
            self.server,
            'guest-exec',
            path='/bin/sh',
            arg=['-c', f'{writing.write}\n{WRITER}'],
        )

    def cuts(self, writing: Writing) -> list[list[int]]:
        """The cuts of all snapshots in a row, while the writer writes on.

        For every second one Cinder is asked slowly.
        """
        with futures.ThreadPoolExecutor(1) as reader:
            cuts = []
            for number in range(CUTS):
                self.proxy.space(SPACING * (number % 2))
                image = self.snapshot(self.server)
                # While the next one is taken.
                cuts.append(reader.submit(self.cut, image, writing))
                still = image.properties.get('snapshot_stall_seconds')
                self.addDetail(f'still-{number}', text_content(f'{still} s'))
            found = [cut.result() for cut in cuts]
        self.assertGreater(found[-1][0], found[0][0], 'nobody writes')
        return found

    def find_impossible_cut(self, writing: Writing) -> None:
        """Find an impossible cut among the first few."""
        found: list[list[int]] = []
        while not self.impossible(found):
            self.assertLess(len(found), FEW_CUTS, found)
            image = self.snapshot(self.server)
            found.append(self.cut(image, writing))

    def impossible(self, cuts: list[list[int]]) -> list[list[int]]:
        return [cut for cut in cuts if not is_possible(cut)]

    def without_agent(self) -> None:
        """The agent ends; a start of the server brings it back."""
        self.ask_agent(
            self.server,
            'guest-exec',
            path='/bin/sh',
            arg=['-c', '(sleep 1; kill $(cat /run/qemu-ga.pid)) &'],
        )

        def is_gone() -> bool:
            with self.domain(self.server) as domain:
                return 'connected' not in domain.XMLDesc().replace(
                    'disconnected', ''
                )

        wait_until(is_gone, 'the agent to be gone', base.AGENT_TIMEOUT, 0.3)
        self.addCleanup(self.wait_for_agent, self.server)
        self.addCleanup(
            self.admin.compute.reboot_server, self.server.id, 'HARD'
        )

    def test_without_agent(self) -> None:
        """The guest is paused."""
        before = self.before(self.server)
        self.write(TO_DEVICES)
        self.without_agent()
        self.assertEqual([], self.impossible(self.cuts(TO_DEVICES)))
        self.assert_as_before(before)

    def test_with_agent(self) -> None:
        """The file systems are frozen, which is all that a freeze holds."""
        before = self.before(self.server)
        self.write(TO_FILES)
        self.assertEqual([], self.impossible(self.cuts(TO_FILES)))
        self.assert_as_before(before)

    def test_unheld(self) -> None:
        """The proof of the test's worth: it can fail."""
        self.configure(
            {
                ('snapshot', 'pause'): 'never',
                ('snapshot', 'quiesce'): 'never',
            }
        )
        self.proxy.space(SPACING)
        self.write(TO_DEVICES)
        self.find_impossible_cut(TO_DEVICES)

    def test_upstream(self) -> None:
        """Nova's own nova-api, which holds no guest without an agent."""
        self.by_upstream(cinder_endpoint=self.proxy.endpoint_template)
        self.proxy.space(SPACING)
        self.write(TO_DEVICES)
        self.without_agent()
        self.find_impossible_cut(TO_DEVICES)


class OneServerTest(VolumesTest):
    """Snapshots of a server, which stays as it is."""

    server: ClassVar[Server]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot_from_volume(1)
        cls.addClassCleanup(cls.delete, cls.server)

    def test_same_image_as_upstream(self) -> None:
        """Upstream makes the same image, without our line for paste."""
        ours = self.snapshot(self.server, 'the same', colour='blue')
        self.by_upstream()
        upstream = self.snapshot(self.server, 'the same', colour='blue')
        different = {'block_device_mapping', 'id', 'file'}
        different |= {'created_at', 'updated_at', 'location', 'name'}
        # The place of the image in the store, named by its id.
        different |= {'direct_url', 'locations'}

        def described(image: Image) -> dict[str, Any]:
            fields = {**image.to_dict(), **image.properties}
            return {
                name: value
                for name, value in fields.items()
                if name not in different | {'properties'}
                and not name.startswith('snapshot_')
            }

        self.assertEqual(described(upstream), described(ours))
        # Upstream has them in the order of the database.
        theirs = sorted(
            self.mapping(upstream), key=lambda each: str(each['device_name'])
        )
        self.assertEqual(
            [dict(e, snapshot_id=None) for e in theirs],
            [dict(e, snapshot_id=None) for e in self.mapping(ours)],
        )
        for mine, other in zip(self.mapping(ours), theirs, strict=True):
            one: Any = self.cinder.get_snapshot(mine['snapshot_id'])
            two: Any = self.cinder.get_snapshot(other['snapshot_id'])
            for field in ('name', 'description', 'size', 'volume_id'):
                self.assertEqual(getattr(two, field), getattr(one, field))

    def test_states(self) -> None:
        for status in ('PAUSED', 'SUSPENDED', 'SHUTOFF'):
            with self.in_state(self.server, status):
                before = self.before(self.server)
                image = self.snapshot(self.server)
                self.assertEqual(2, len(self.mapping(image)))
                self.assert_as_before(before)

    def test_command(self) -> None:
        before = self.before(self.server)
        result = subprocess.run(
            self.command('create', self._domain_name(self.server)),
            env=self.environment_of('demo'),
            capture_output=True,
            check=True,
            timeout=base.SNAPSHOT_TIMEOUT,
        )
        made = json.loads(result.stdout)
        self.addCleanup(self.admin.image.delete_image, made['image'])
        # By its type it may be one of version 1.
        glance: Any = self.demo.image
        image = self.wait_for_image(glance.get_image(made['image']))
        self.assertEqual(
            set(made['volumes'].values()),
            {each['snapshot_id'] for each in self.mapping(image)},
        )
        self.assert_as_before(before)


class BootTest(VolumesTest):
    def test_server_of_the_image(self) -> None:
        """The server has all volumes, in order, with the data of that instant.

        With upstream's nova-api they are in the order of the database, which
        is that of their random ids, and the right one once in six times.
        """
        disks = DATA[:3]
        server = self.new_server_from_volume(len(disks))
        for disk in disks:
            self.run_in_guest(
                server,
                f'printf "%-512s" on-{disk} | dd of=/dev/{disk} bs=512 '
                f'seek={SECTOR} conv=notrunc,fsync',
            )
        records = self.wait_for_records(server)
        image = self.snapshot(server)
        for disk in disks:
            self.run_in_guest(
                server,
                f'dd if=/dev/zero of=/dev/{disk} bs=512 count=1 '
                f'seek={SECTOR} conv=notrunc,fsync',
            )
        other = self.start(image.id)
        try:
            self.wait_for_records(other, 1)
            self.wait_for_agent(other)
            self.assertGreaterEqual(self.records(other), records)
            volumes = self.volumes_of(other)
            self.assertEqual(1 + len(disks), len(volumes))
            for disk in disks:
                self.run_in_guest(
                    other,
                    f'dd if=/dev/{disk} bs=512 count=1 skip={SECTOR} | '
                    f'grep -q on-{disk}',
                )
        finally:
            self.delete(other)
        for volume in volumes:
            self._wait_until_none(self.cinder.find_volume, volume)

    def test_volumes_that_stay(self) -> None:
        """A volume that is not to go with its server has a copy like that."""
        image = self.demo.image.find_image(RAW_IMAGE, ignore_missing=False)
        root, data = volumes_to_boot_from(image.id, 1)
        server = self.boot(
            RAW_IMAGE,
            image_id='',
            block_device_mapping=[
                root,
                {**data, 'delete_on_termination': False},
            ],
        )
        _goes, stays = self.volumes_of(server)
        self.addCleanup(self.delete_volume, stays)
        self.addCleanup(self.delete, server)
        other = self.start(self.snapshot(server).id)
        goes, copy = self.volumes_of(other)
        self.delete(other)
        self._wait_until_none(self.cinder.find_volume, goes)
        # Before the snapshot that it is a clone of.
        self.delete_volume(copy)

    def test_printed_commands(self) -> None:
        """A user types the commands of ``make cloud STORAGE=ceph``."""
        printed = usage(self.cloud, self.cloud.options)
        # The cloud of somebody who tries it out has their names already.
        names = {
            name: f'{name}-{uuid.uuid4().hex[:6]}'
            for name in ('three', 'four', 'volumes')
        }
        self.addCleanup(self._forget, names)
        script = [f'. {self.cloud.directory}/openrc-demo']
        for command in VOLUME_COMMANDS:
            self.assertIn(f'\n  {command}\n', printed)
            script.append(
                ' '.join(names.get(word, word) for word in command.split())
            )
        run(
            ['bash', '-euc', '\n'.join(script)],
            timeout=len(script) * base.SNAPSHOT_TIMEOUT,
        )
        # By its type it may be one of version 1.
        glance: Any = self.demo.image
        image = glance.find_image(names['volumes'], ignore_missing=False)
        self.assertEqual('volumes', image.properties['snapshot_method'])
        server = self.demo.compute.find_server(
            names['four'], ignore_missing=False
        )
        self.assertEqual('ACTIVE', server.status)

    def _forget(self, names: dict[str, str]) -> None:
        """Delete what the printed commands have made, the last one first."""
        volumes: dict[str, list[str]] = {'three': [], 'four': []}
        for name, found in volumes.items():
            server = self.demo.compute.find_server(names[name])
            if server is not None:
                found += self.volumes_of(server)
                self.delete(server)
        # A volume goes after the snapshot of it, and that after its clone.
        for volume in volumes['four']:
            self.delete_volume(volume)
        glance: Any = self.demo.image
        image = glance.find_image(names['volumes'])
        if image is not None:
            mapping = self.mapping(image)
            self.admin.image.delete_image(image.id)
            self.delete_snapshots(mapping)
            for each in mapping:
                self._wait_until_none(
                    self.cinder.find_snapshot, each['snapshot_id']
                )
        for volume in volumes['three']:
            self.delete_volume(volume)

    def delete_volume(self, volume: str) -> None:
        """Delete one that no server has any more."""
        self.wait_for_volume(volume, 'available')
        self.cinder.delete_volume(volume)
        self._wait_until_none(self.cinder.find_volume, volume)

    def test_many_volumes(self) -> None:
        server = self.new_server_from_volume(12)
        self.assertEqual(13, len(self.mapping(self.snapshot(server))))

    def test_volumes_of_each_kind(self) -> None:
        volumes = [self.new_volume(**kind) for kind in KINDS]
        server = self.new_server_from_volume()
        for volume in volumes:
            self.demo.compute.create_volume_attachment(
                server.id, volume_id=volume
            )
            self.wait_for_volume(volume, 'in-use')
        volumes = self.volumes_of(server)
        self.assertEqual(1 + len(KINDS), len(volumes))
        with self.domain(server) as domain:
            self.assertEqual(
                {
                    device: (f'volumes/volume-{volume}', 'cinder')
                    for device, volume in zip(
                        ('vda', *DATA), volumes, strict=False
                    )
                },
                disks_in_ceph(domain),
            )
        self._assert_nova_alone_can_detach(volumes[-1])
        mapping = self.mapping(self.snapshot(server))
        self.assertEqual(
            ['/dev/vda', *(f'/dev/{disk}' for disk in DATA[: len(KINDS)])],
            [each['device_name'] for each in mapping],
        )

    def _assert_nova_alone_can_detach(self, volume: str) -> None:
        """Nova says so by a token of its own beside that of the user."""
        [attachment] = self.cinder.get_volume(volume).attachments
        self.assertRaises(
            sdk_exceptions.ConflictException,
            self.cinder.delete_attachment,
            attachment['attachment_id'],
        )

    def test_root_disk_of_an_image(self) -> None:
        """Volumes beside it have no part in it, as upstream."""
        volume = self.new_volume()
        server = self.new_server()
        self.demo.compute.create_volume_attachment(server.id, volume_id=volume)
        image = self.ask_for_snapshot(server)
        image = base.CloudTest.wait_for_image(self, image)
        self.assertNotIn('block_device_mapping', image.properties)
        self.assertEqual([], self.snapshots_of([volume]))


class FaultsTest(VolumesTest):
    """After each: no snapshot, no image, and a guest that goes on."""

    server: ClassVar[Server]
    nova_compute: ClassVar[Overrides] = {
        ('snapshot', 'stall_timeout'): 5,
        ('snapshot', 'volume_timeout'): 60,
        ('cinder', 'timeout'): 10,
    }

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.boot_from_volume(3)
        cls.addClassCleanup(cls.delete, cls.server)

    def fails(
        self, before: laws.Before, meanwhile: Callable[[], object]
    ) -> str:
        """Snapshot the server, see that nothing is left; returns the fault."""
        image = self.ask_for_snapshot(self.server)
        meanwhile()
        self.wait_until_gone(image)
        self.wait_for_no_task(self.server.id)
        self.assertEqual([], self.snapshots_of(self.volumes_of(self.server)))
        self.assert_as_before(before)
        self.wait_for_records(self.server)
        return self.fault(self.server)

    def test_cinder_refuses_the_third(self) -> None:
        self.proxy.answer(3, 500)
        before = self.before(self.server)
        self.assertIn('cinder-unavailable', self.fails(before, lambda: None))

    def test_answer_of_the_third_is_lost(self) -> None:
        """Cinder has made a snapshot of it all the same."""
        self.proxy.lose_answer(3)
        before = self.before(self.server)
        self.assertIn('cinder-unavailable', self.fails(before, lambda: None))

    def test_snapshot_ends_in_error(self) -> None:
        """cinder-volume may not make it."""
        before = self.before(self.server)
        volumes = self.volumes_of(self.server)
        admin: Any = self.admin.block_storage

        def meanwhile() -> None:
            with self.cloud.ceph.restricted('cinder', READS):
                wait_until(
                    lambda: any(
                        snapshot.status == 'error'
                        for snapshot in admin.snapshots(all_projects=True)
                        if snapshot.volume_id in volumes
                    ),
                    'a snapshot to end in error',
                    VOLUME_TIMEOUT,
                    0.1,
                )

        self.proxy.space(0.5)
        self.assertIn('volume-snapshot-failed', self.fails(before, meanwhile))

    @contextlib.contextmanager
    def ceph_is_full(self) -> Iterator[None]:
        """Inside, long enough for Cinder's scheduler to be told."""
        try:
            with self.cloud.ceph.full():
                yield
        finally:
            wait_until(
                self._is_room_in_cinder,
                "Cinder's scheduler to be told of the room",
                VOLUME_TIMEOUT,
                0.3,
            )

    def _is_room_in_cinder(self) -> bool:
        admin: Any = self.admin.block_storage
        return all(
            pool.capabilities['free_capacity_gb'] > 0
            for pool in admin.backend_pools()
        )

    def test_ceph_is_full(self) -> None:
        """For a while, in which the guest's own writes wait too."""
        before = self.before(self.server)
        volumes = self.volumes_of(self.server)
        with self.ceph_is_full():
            image = self.ask_for_snapshot(self.server)
            time.sleep(FULL)
        self.wait_for_no_task(self.server.id)
        self.assert_as_before(before)
        self.wait_for_records(self.server)
        found: Any = self.admin.image.find_image(image.id)
        if found is None:
            self.assertEqual([], self.snapshots_of(volumes))
        else:
            self.wait_for_image(found)
        self.snapshot(self.server)

    def test_cinder_stops_answering(self) -> None:
        """The bound holds, and the guest goes on before all is undone."""

        def meanwhile() -> None:
            wait_until(
                lambda: self.proxy.asked > 0, 'Cinder to be asked', 60, 0.02
            )
            self.proxy.stop_answering()
            with self.domain(self.server) as domain:
                wait_until(
                    lambda: (
                        domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
                        and laws.agent_says_frozen(domain) is False
                    ),
                    'the guest to go on',
                    GOES_ON,
                    0.2,
                )
            self.proxy.heal()

        self.proxy.space(1.0)
        self.fails(self.before(self.server), meanwhile)

    def test_quota_is_used_up_meanwhile(self) -> None:
        admin: Any = self.admin.block_storage
        project = self.demo.current_project_id
        used = len(list(self.cinder.snapshots()))
        self.addCleanup(admin.update_quota_set, project, snapshots=-1)

        def meanwhile() -> None:
            wait_until(
                lambda: self.proxy.asked > 0, 'Cinder to be asked', 60, 0.02
            )
            admin.update_quota_set(project, snapshots=used + 2)

        self.proxy.space(1.0)
        before = self.before(self.server)
        self.assertIn('cinder-over-limit', self.fails(before, meanwhile))

    def test_server_is_deleted_meanwhile(self) -> None:
        server = self.boot_from_volume(2)
        volumes = self.volumes_of(server)
        self.proxy.space(1.0)
        image = self.ask_for_snapshot(server)
        wait_until(
            lambda: self.proxy.asked > 0, 'Cinder to be asked', 60, 0.02
        )
        self.delete(server)
        self.wait_until_gone(image)
        self.assertEqual([], self.snapshots_of(volumes))
        for volume in volumes:
            self._wait_until_none(self.cinder.find_volume, volume)
