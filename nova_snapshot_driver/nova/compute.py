# SPDX-License-Identifier: Apache-2.0
"""The compute driver: Nova's for libvirt, but for its snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nova.conf
from nova import exception as nova_exception
from nova import objects as nova_objects
from nova.context import RequestContext
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from nova_snapshot_driver import conf
from nova_snapshot_driver import events
from nova_snapshot_driver import exception
from nova_snapshot_driver import metrics
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.events import Event
from nova_snapshot_driver.host import Host
from nova_snapshot_driver.instance import BlockDevices
from nova_snapshot_driver.metrics import Tally
from nova_snapshot_driver.nova import objects
from nova_snapshot_driver.nova import presence
from nova_snapshot_driver.nova import upstream
from nova_snapshot_driver.nova.errors import translated
from nova_snapshot_driver.nova.running import RunningSnapshots
from nova_snapshot_driver.nova.surroundings import ComputeSurroundings

CONF = nova.conf.CONF
conf.register_opts(CONF)

LOG = logging.getLogger(__name__)


class LibvirtSnapshotDriver(libvirt_driver.LibvirtDriver):
    """Nova's libvirt driver, with snapshots of our own.

    ``compute_driver = snapshot_driver.LibvirtSnapshotDriver``
    """

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        upstream.outlive_libvirtd(self._host)
        self._snapshots = RunningSnapshots()
        self._metrics = metrics.Metrics()

    def init_host(self, host: str) -> None:
        """Get ready, and give back what a nova-compute that died had taken."""
        super().init_host(host)
        self._metrics = metrics.of(CONF.snapshot.metrics_file)
        try:
            self._engine().heal(objects.ServiceUser())
        except exception.SnapshotError as error:
            # There will be no snapshots then, but nova-compute does more.
            LOG.error('%s', error)

    def cleanup_host(self, host: str) -> None:
        """Stop, and have no snapshot die of it.

        nova-compute has waited for them until now, and waits no longer. One
        that does not end in time dies with the process, and is given back by
        its watchdog or by the next ``init_host``.
        """
        self._snapshots.end_all(
            'nova-compute stops', CONF.snapshot.guest_timeout
        )
        super().cleanup_host(host)

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """What the host has, and that it has this driver.

        nova-api leaves volume-backed servers of this host to it.
        """
        resources: dict[str, Any] = super().get_available_resource(nodename)
        if CONF.libvirt.virt_type in upstream.QEMU:
            presence.report(resources)
        return resources

    def snapshot(
        self,
        context: RequestContext,
        instance: nova_objects.Instance,
        image_id: str,
        update_task_state: Callable[..., Any],
    ) -> None:
        """Snapshot an instance into an image.

        What this driver has no way to goes to Nova's own, but for an instance
        whose root disk is a volume: that one would copy the volume.
        Source: ``nova.virt.driver.ComputeDriver.snapshot``.

        :raises InstanceNotRunning: there is no domain
        :raises InstanceNotFound: the instance was deleted meanwhile
        :raises ImageNotFound: the image was deleted meanwhile
        :raises InstanceQuiesceFailed: quiescing is required and failed
        :raises SnapshotFailed: anything else; the image is deleted, and the
            guest is as it was
        """
        request = (context, instance, image_id, update_task_state)
        with translated(instance.uuid, image_id):
            block_devices = objects.block_devices_of(context, instance)
            if block_devices is not None:
                self._require_domain(instance)
                self._snapshot(*request, block_devices)
                return
            if CONF.libvirt.virt_type not in upstream.QEMU:
                self._leave_to_nova(
                    instance,
                    f'[libvirt] virt_type is {CONF.libvirt.virt_type}',
                )
                super().snapshot(*request)
                return
            self._require_domain(instance)
            try:
                self._snapshot(*request)
            except exception.NotSupported as refusal:
                self._leave_to_nova(instance, refusal)
                with self._engine().given_back(
                    instance.uuid, objects.Requester(context), image_id
                ):
                    super().snapshot(
                        context,
                        instance,
                        image_id,
                        upstream.unless_torn(
                            self._engine().guest(instance.uuid),
                            update_task_state,
                        ),
                    )

    def _leave_to_nova(
        self, instance: nova_objects.Instance, reason: object
    ) -> None:
        """Say that Nova's own driver takes the snapshot, where it may.

        :raises QuiesceFailed: it freezes nothing, and that is required
        """
        events.tell(
            LOG.warning,
            Event.LEFT_TO_NOVA,
            f"Nova's own driver takes the snapshot: {reason}",
            instance.uuid,
        )
        self._metrics.left_to_nova()
        upstream.require_no_freeze(
            self._engine().guest(instance.uuid), objects.instance_of(instance)
        )

    def _require_domain(self, instance: nova_objects.Instance) -> None:
        try:
            self._engine().guest(instance.uuid)
        except exception.DomainNotFound as error:
            raise nova_exception.InstanceNotRunning(
                instance_id=instance.uuid
            ) from error

    def _snapshot(
        self,
        context: RequestContext,
        instance: nova_objects.Instance,
        image_id: str,
        update_task_state: Callable[..., Any],
        block_devices: BlockDevices | None = None,
    ) -> None:
        with (
            self._snapshots.of(instance.uuid) as cancellation,
            self._metrics.counted() as tally,
        ):
            tally.snapshot = self._engine(tally).snapshot(
                objects.Requester(context),
                objects.instance_of(instance, block_devices),
                image_id,
                update_task_state,
                cancellation=cancellation,
            )

    def volume_snapshot_create(
        self,
        context: RequestContext,
        instance: nova_objects.Instance,
        volume_id: str,
        create_info: dict[str, Any],
    ) -> None:
        """Take a snapshot for Cinder, of a volume that is a file.

        One that Cinder takes because a snapshot of ours has asked for it finds
        the guest still, where that is wanted; the agent would refuse to freeze
        what it has frozen.
        """
        if self._snapshots.has(instance.uuid):
            instance = objects.without_quiesce(instance)
        super().volume_snapshot_create(
            context, instance, volume_id, create_info
        )

    def destroy(
        self,
        context: RequestContext,
        instance: nova_objects.Instance,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Destroy an instance, which its snapshot has let go of before.

        A snapshot gives back what it took: a domain that were destroyed under
        its hands would be defined again.
        """
        self._snapshots.end(
            instance.uuid,
            'the instance is destroyed',
            CONF.snapshot.guest_timeout,
        )
        self._disown(instance)
        super().destroy(context, instance, *args, **kwargs)

    def _disown(self, instance: nova_objects.Instance) -> None:
        try:
            self._engine().disown(instance.uuid)
        except exception.SnapshotError as error:
            LOG.error('%s', error, instance=instance)

    def _engine(self, tally: Tally | None = None) -> SnapshotDriver:
        # libvirt may have been restarted since the last one.
        return SnapshotDriver(
            CONF,
            Host(self._host.get_connection(), self._reconnect),
            ComputeSurroundings(self._metrics, tally),
        )

    def _reconnect(self) -> Any:
        try:
            return self._host.get_connection()
        except nova_exception.HypervisorUnavailable as error:
            raise exception.ConnectionFailed(
                uri=self._uri(), reason=str(error)
            ) from error
