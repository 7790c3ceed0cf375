# SPDX-License-Identifier: Apache-2.0
"""The properties on the image of a snapshot."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any
from typing import ClassVar

from openstack import exceptions as sdk_exceptions
from openstack.compute.v2.server import Server
from openstack.connection import Connection
from openstack.image.v2.image import Image

from lab.bootdisk import MIB
from lab.bounded import run
from lab.directory import lab_directory
from lab.witness import WitnessImage
from tests.openstack import base
from tests.openstack import bus
from tests.openstack.bus import Bus

COMMAND_TIMEOUT = 60

#: The properties that the driver adds and Nova's own does not.
OURS = {
    'snapshot_method',
    'snapshot_method_reason',
    'snapshot_quiesced',
    'snapshot_quiesced_reason',
    'snapshot_quiesced_file_systems',
    'snapshot_disk',
    'snapshot_disk_size',
    'snapshot_source_format',
}

#: The fields that differ between any two images, or snapshots.
UNIQUE = {
    'id',
    'self',
    'file',
    'created_at',
    'updated_at',
    'size',
    'checksum',
    'os_hash_value',
}

#: Properties that an image of a snapshot has from that of its server.
INHERITED = {
    'architecture': 'x86_64',
    'empty': '',
    'hw_disk_bus': 'virtio',
    'hw_machine_type': 'pc',
    'hw_qemu_guest_agent': 'yes',
    'hw_rng_model': 'virtio',
    'hw_video_model': 'virtio',
    'long': 'x' * 255,
    'os_admin_user': 'root',
    'os_command_line': (
        'console=ttyS0 quiet mitigations=off tsc=reliable no_timer_check'
    ),
    'os_distro': 'debian',
    'os_type': 'linux',
    'os_version': '12',
    'scripts': 'λόγος שלום 雪',
}

#: Properties that it does not have from there.
NOT_INHERITED = {
    'bittorrent': 'yes',
    'cache_in_nova': 'yes',
    'img_signature': 'c2lnbmF0dXJl',
    'img_signature_certificate_uuid': '5ca9a1d1-0e86-4d1e-a1e2-2f7d3c6f8b5a',
    'img_signature_hash_method': 'SHA-256',
    'img_signature_key_type': 'RSA-PSS',
}

SCRIPTS = 'Снимок «да» — שלום — صورة — 雪の写真 — ภาพ'
#: Characters that a shell, a path or a template would stumble over.
SPECIAL = '../../%s {0} \'"\\ $(true) `true` ; <&>'


#: The task states of a snapshot.
BEGUN = ['image_snapshot_pending', 'image_snapshot']
UPLOADED = ['image_pending_upload', 'image_uploading']


@dataclasses.dataclass(frozen=True)
class Taken:
    """The cloud's record of a snapshot that was taken.

    :ivar members: the projects that its image is offered to, and what they
        have said to it
    """

    image: dict[str, Any]
    members: dict[str, str]
    task_states: list[str | None]


class ImageTest(base.ServerTest):
    """Of a server whose image has all sorts of properties."""

    image: ClassVar[dict[str, Any]]

    @classmethod
    def make_image(cls) -> Image:
        image = cls.upload(
            # Glance leaves properties of its own on what is imported.
            use_import=True,
            visibility='private',
            min_disk=1,
            min_ram=128,
            tags=['one', 'two'],
            **cls._upload_kernel(),
            **INHERITED,
        )
        # By its type it may be one of version 1.
        glance: Any = cls.demo.image
        glance.wait_for_status(image, 'active', wait=base.SNAPSHOT_TIMEOUT)
        # A signature that is there at an upload is verified by then.
        glance.update_image(image.id, **NOT_INHERITED)
        cls.image = cls.describe(image)
        return image

    @classmethod
    def _upload_kernel(cls) -> dict[str, str]:
        """The kernel and the initrd of the witness, beside its disk."""
        disk = WitnessImage.build().base_raw
        uploaded = {}
        with tempfile.TemporaryDirectory(dir=lab_directory()) as name:
            for file, kind, role in (
                ('vmlinuz', 'aki', 'kernel_id'),
                ('initrd', 'ari', 'ramdisk_id'),
            ):
                run(
                    ['mcopy', '-i', f'{disk}@@{MIB}', f'::/{file}', name],
                    timeout=COMMAND_TIMEOUT,
                    environment={'MTOOLS_SKIP_CHECK': '1'},
                )
                uploaded[role] = cls.upload(
                    filename=str(Path(name, file)),
                    disk_format=kind,
                    container_format=kind,
                ).id
        return uploaded

    @classmethod
    def describe(cls, image: Image) -> dict[str, Any]:
        """All that Glance says of an image, as it says it."""
        description: dict[str, Any] = cls.admin.image.get(
            f'/images/{image.id}'
        ).json()
        return description

    # As Nova's own driver makes it

    def test_same_as_upstream(self) -> None:
        stopped = self.new_server()
        self.demo.compute.stop_server(stopped.id)
        self.wait_for_status(stopped, 'SHUTOFF')
        ours = self._taken_by_this_driver(stopped)
        self.addCleanup(self.cloud.ensure, base.options())
        self.cloud.ensure(base.options(driver='libvirt.LibvirtDriver'))
        upstreams = self._taken_by_this_driver(stopped)
        for name, upstream in upstreams.items():
            # Or ours would be compared with ours.
            self.assertEqual(set(), OURS & set(upstream.image), name)
            self.assertEqual(
                OURS, set(ours[name].image) - set(upstream.image), name
            )
            self.assertEqual(
                _without(UNIQUE, upstream.image),
                _without(UNIQUE | OURS, ours[name].image),
                name,
            )
            self.assertEqual(upstream.members, ours[name].members, name)
            # Nova's own driver first tries a way that only Ceph has.
            self.assertEqual(
                upstream.task_states,
                [*BEGUN, *UPLOADED, *UPLOADED, None],
                name,
            )
            self.assertEqual(
                ours[name].task_states, [*BEGUN, *UPLOADED, None], name
            )

    def _taken_by_this_driver(self, stopped: Server) -> dict[str, Taken]:
        return {
            name: self._take(name, server, connection)
            for name, server, connection in (
                ('live', self.server, self.demo),
                ('by an administrator', self.server, self.admin),
                ('of a stopped server', stopped, self.demo),
            )
        }

    def _take(
        self, name: str, server: Server, connection: Connection
    ) -> Taken:
        with Bus(self.cloud.rabbit_url) as listener:
            image = self.snapshot(server, name, connection)
            found = listener.wait_for('instance.snapshot.end', server.id)
        return Taken(
            self.describe(image), self._members(image), bus.task_states(found)
        )

    def _members(self, image: Image) -> dict[str, str]:
        """The projects that a shared image is offered to, and their answer."""
        if image.visibility != 'shared':
            return {}
        glance: Any = self.admin.image
        return {
            member.member_id: member.status
            for member in glance.members(image.id)
        }

    # From the image of the server

    def test_inheritance(self) -> None:
        inherited = {
            **INHERITED,
            'kernel_id': self.image['kernel_id'],
            'ramdisk_id': self.image['ramdisk_id'],
            'min_disk': 1,
            'min_ram': 128,
        }
        base_only = {name for name in self.image if 'os_glance' in name}
        self.assertNotEqual(set(), base_only)
        found = self.describe(self.snapshot(self.server))
        self.assertEqual(
            {
                **inherited,
                'base_image_ref': self.image['id'],
                'image_type': 'snapshot',
                'instance_uuid': self.server.id,
                'owner_id': self.server.project_id,
                'user_id': self.server.user_id,
                'visibility': 'private',
                'tags': [],
            },
            {
                name: found.get(name)
                for name in (
                    *inherited,
                    'base_image_ref',
                    'image_type',
                    'instance_uuid',
                    'owner_id',
                    'user_id',
                    'visibility',
                    'tags',
                )
            },
        )
        self.assertEqual(set(), set(found) & {*NOT_INHERITED, *base_only})

    # From the request

    def test_any_script(self) -> None:
        image = self.snapshot(
            self.server, SCRIPTS, script=SCRIPTS, special=SPECIAL
        )
        self.assertEqual(SCRIPTS, image.name)
        self.assertEqual(SCRIPTS, image.properties['script'])
        self.assertEqual(SPECIAL, image.properties['special'])

    def test_longest_name(self) -> None:
        longest = SPECIAL.ljust(255, '雪')
        self.assertEqual(longest, self.snapshot(self.server, longest).name)

    def test_name_that_glance_refuses(self) -> None:
        """The database of Glance has no room for an emoji."""
        self.assertRaises(
            sdk_exceptions.BadRequestException,
            self.ask_for_snapshot,
            self.server,
            '\N{FOX FACE}',
        )
        self.wait_for_no_task(self.server.id)

    # For somebody else

    def test_snapshot_by_an_administrator(self) -> None:
        """The project of the server is offered the image, and may use it."""
        image = self.snapshot(self.server, connection=self.admin)
        project = self.server.project_id
        self.assertEqual('shared', image.visibility)
        self.assertEqual(project, self.describe(image)['owner_id'])
        self.assertEqual(
            self.admin.current_project_id, self.describe(image)['owner']
        )
        self.assertEqual({project: 'pending'}, self._members(image))
        glance: Any = self.demo.image
        self.assertEqual(image.id, glance.get_image(image.id).id)
        glance.update_member(project, image.id, status='accepted')
        self.assertIn(
            image.id, {each.id for each in glance.images(visibility='shared')}
        )
        # The server boots from the image.
        self.new_server(image)


def _without(names: set[str], image: dict[str, Any]) -> dict[str, Any]:
    return {name: image[name] for name in image if name not in names}
