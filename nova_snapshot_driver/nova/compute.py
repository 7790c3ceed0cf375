# SPDX-License-Identifier: Apache-2.0
"""The compute driver: Nova's for libvirt, but for its snapshots."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import nova.conf
from nova import exception as nova_exception
from nova import objects as nova_objects
from nova.context import RequestContext
from nova.network.model import NetworkInfo
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.common import events
from nova_snapshot_driver.common.events import Event
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.guest import Guest
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.nova import objects
from nova_snapshot_driver.nova import presence
from nova_snapshot_driver.nova import upstream
from nova_snapshot_driver.nova.environment import ComputeEnvironment
from nova_snapshot_driver.nova.errors import translated
from nova_snapshot_driver.nova.running import RunningSnapshots
from nova_snapshot_driver.nova.target import target_of
from nova_snapshot_driver.recovery.healer import Healer
from nova_snapshot_driver.snapshot import metrics
from nova_snapshot_driver.snapshot import retention
from nova_snapshot_driver.snapshot.plan.instance import BlockDevices

CONF = nova.conf.CONF
conf.register_opts(CONF)

LOG = logging.getLogger(__name__)


class LibvirtSnapshotDriver(libvirt_driver.LibvirtDriver):
    """Nova's libvirt driver, with snapshots by this project.

    ``compute_driver = snapshot_driver.LibvirtSnapshotDriver``
    """

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        upstream.outlive_libvirtd(self._host)
        self._snapshots = RunningSnapshots()
        self._metrics = metrics.Metrics()

    def init_host(self, host: str) -> None:
        """Start, and recover what a nova-compute that died has left."""
        super().init_host(host)
        self._metrics = metrics.of(CONF.snapshot.metrics_file)
        try:
            with self._connected() as host_of_guests:
                self._healer(host_of_guests).heal(objects.ServiceUser())
        except exception.SnapshotError as error:
            # Log and go on: without snapshots nova-compute is still useful.
            LOG.error('%s', error)

    def cleanup_host(self, host: str) -> None:
        """Stop, and end all snapshots in order.

        nova-compute has waited for them already, and waits no longer. A
        snapshot that does not end in time dies with the process, and is undone
        by its watchdog or by the next ``init_host``.
        """
        self._snapshots.end_all(
            'nova-compute stops', CONF.snapshot.cancel_timeout
        )
        super().cleanup_host(host)

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """The resources of the host, with the mark of this driver.

        nova-api leaves volume-backed servers of a host with the mark to it.
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
                with (
                    self._connected() as host,
                    self._healer(host).given_back(
                        instance.uuid, objects.Requester(context), image_id
                    ),
                ):
                    super().snapshot(
                        context,
                        upstream.as_it_may_freeze(instance),
                        image_id,
                        upstream.unless_torn(
                            self._guest(instance.uuid),
                            update_task_state,
                        ),
                    )

    def _leave_to_nova(
        self, instance: nova_objects.Instance, reason: object
    ) -> None:
        """Log that Nova's own driver takes the snapshot, where it may.

        :raises QuiesceFailed: it freezes nothing, and that is required
        """
        events.log_event(
            LOG.warning,
            Event.LEFT_TO_NOVA,
            f"Nova's own driver takes the snapshot: {reason}",
            instance.uuid,
        )
        self._metrics.left_to_nova()
        upstream.require_no_freeze(
            self._guest(instance.uuid), objects.instance_of(instance)
        )

    def _require_domain(self, instance: nova_objects.Instance) -> None:
        try:
            self._guest(instance.uuid)
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
            self._connected() as host,
        ):
            driver = SnapshotDriver(
                conf.read_settings(CONF),
                host,
                ComputeEnvironment(self._metrics, tally, context),
            )
            requester = objects.Requester(context)
            target = target_of(requester, instance, image_id)
            tally.snapshot = driver.snapshot(
                requester,
                objects.instance_of(instance, block_devices, target),
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

        The guest stands still already where a snapshot of ours has made Cinder
        ask: the agent would refuse to freeze it a second time.
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
        network_info: NetworkInfo,
        block_device_info: dict[str, Any] | None = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        """Destroy an instance, after its snapshot has been ended.

        A snapshot gives back what it took: it would define a destroyed domain
        again.
        """
        self._snapshots.end(
            instance.uuid,
            'the instance is destroyed',
            CONF.snapshot.cancel_timeout,
        )
        self._disown(instance)
        super().destroy(
            context,
            instance,
            network_info,
            block_device_info,
            destroy_disks,
            destroy_secrets,
        )
        if destroy_disks:
            self._bury(instance)

    def manage_image_cache(
        self, context: RequestContext, all_instances: Any
    ) -> None:
        """Look after what is kept, from time to time.

        Source: ``nova.virt.driver.ComputeDriver.manage_image_cache``
        """
        super().manage_image_cache(context, all_instances)
        try:
            retention.sweep(
                conf.read_settings(CONF).destination,
                objects.ServiceUser(),
                functools.partial(objects.is_there, context),
            )
        except exception.SnapshotError as error:
            LOG.warning('Snapshots in Cinder of deleted servers: %s', error)

    def _bury(self, instance: nova_objects.Instance) -> None:
        """Have the volume go that no image of a deleted server needs."""
        try:
            retention.disk_is_deleted(
                conf.read_settings(CONF).destination, instance.uuid
            )
        except exception.SnapshotError as error:
            LOG.error('%s', error, instance=instance)

    def _disown(self, instance: nova_objects.Instance) -> None:
        try:
            self._healer(self._nova_host()).forget_domain(instance.uuid)
        except exception.SnapshotError as error:
            LOG.error('%s', error, instance=instance)

    def _guest(self, uuid: str) -> Guest:
        return self._healer(self._nova_host()).guest(uuid)

    def _healer(self, host: Host) -> Healer:
        return Healer(
            conf.read_settings(CONF).undo,
            host,
            ComputeEnvironment(self._metrics),
        )

    def _nova_host(self) -> Host:
        """The host by Nova's own connection, which no QEMU may block."""
        # libvirt may have been restarted since the last call.
        return Host(self._host.get_connection(), self._reconnect)

    def _connected(self) -> contextlib.AbstractContextManager[Host]:
        """The host by a connection of its own.

        Calls that a QEMU does not answer would fill Nova's connection.
        """
        return Host.connected(self._uri(), self._connect)

    def _connect(self) -> Any:
        # Nova reports in its own way that libvirt is away.
        self._reconnect()
        return upstream.connect(self._host)

    def _reconnect(self) -> Any:
        try:
            return self._host.get_connection()
        except nova_exception.HypervisorUnavailable as error:
            raise exception.ConnectionFailed(
                uri=self._uri(), reason=str(error)
            ) from error
