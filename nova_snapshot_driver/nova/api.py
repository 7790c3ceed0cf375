# SPDX-License-Identifier: Apache-2.0
"""nova-api with snapshots of volume-backed servers by the driver.

Nova's own nova-api has Cinder snapshot the volumes itself, and never asks the
driver. With one line in its ``api-paste.ini`` it leaves them to the driver on
the host of the server, where that host has this driver::

    [app:osapi_compute_app_v21]
    paste.app_factory = nova_snapshot_driver.nova.api:app_factory
"""

from __future__ import annotations

from typing import Any

from nova import exception as nova_exception
from nova import objects
from nova.compute import api as compute_api
from nova.compute import instance_actions
from nova.compute import task_states
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova.context import RequestContext
from oslo_log import log as logging

from nova_snapshot_driver.common import version
from nova_snapshot_driver.nova import presence

# A logger in the namespace of Nova, since it logs within nova-api.
LOG = logging.getLogger('nova.snapshot_driver.api')

#: The task states of a snapshot that a host is taking.
OF_A_SNAPSHOT = (
    task_states.IMAGE_SNAPSHOT,
    task_states.IMAGE_PENDING_UPLOAD,
    task_states.IMAGE_UPLOADING,
)

#: The properties that the image of volumes does not inherit from the server's.
_WRITTEN_ANEW = ('block_device_mapping', 'bdm_v2', 'root_device_name')


def app_factory(global_config: dict[str, str], **local_config: str) -> Any:
    """Nova's API of servers, with snapshots by this driver.

    For ``paste.app_factory``, in place of
    ``nova.api.openstack.compute:APIRouterV21.factory``.
    """
    # Nova loads the application twice, for v2 and for v2.1.
    if compute_api.API is not API:
        install()
        LOG.info(
            'Snapshots of volume-backed servers are left to their hosts '
            '(nova-snapshot-driver %s)',
            version.installed(),
        )
    # Import late: the controllers must not exist before the class is replaced.
    from nova_snapshot_driver.nova import api_router

    return api_router.Router.factory(global_config, **local_config)


def install() -> None:
    """Have nova-api's controllers, which are created later, use ``API``."""
    compute_api.API = API


class API(compute_api.API):
    """Nova's API, but for the snapshots of volume-backed servers."""

    def snapshot_volume_backed(
        self,
        context: RequestContext,
        instance: objects.Instance,
        name: str,
        extra_properties: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Snapshot a volume-backed server, on its host where it can be.

        Source: ``nova.compute.api.API.snapshot_volume_backed``.

        :returns: the record of the image
        :raises OverQuota: that of snapshots in Cinder is used up
        :raises InstanceInvalidState: it has another task, or is in no state
            to be snapshotted
        """
        image: dict[str, Any]
        if presence.is_on_host_of(context, instance, self.servicegroup_api):
            image = self._snapshot_on_host(
                context, instance, name, extra_properties
            )
            return image
        LOG.info(
            'The host of the instance has no snapshot driver, or is down: '
            'Nova itself snapshots the volumes',
            instance=instance,
        )
        image = super().snapshot_volume_backed(
            context, instance, name, extra_properties
        )
        return image

    @compute_api.check_instance_state(
        vm_state=[
            vm_states.ACTIVE,
            vm_states.STOPPED,
            vm_states.PAUSED,
            vm_states.SUSPENDED,
        ]
    )
    def _snapshot_on_host(
        self,
        context: RequestContext,
        instance: objects.Instance,
        name: str,
        extra_properties: dict[str, str] | None,
    ) -> dict[str, Any]:
        """Start the snapshot as ``nova.compute.api.API.snapshot`` does.

        The record of the image is that of ``_create_image()``.
        """
        self._check_quota(context, instance)
        image = self._create_image(context, instance, name, extra_properties)
        instance.task_state = task_states.IMAGE_SNAPSHOT_PENDING
        try:
            instance.save(expected_task_state=[None])
        except nova_exception.InstanceNotFound:
            self._drop(context, image, instance)
            raise _gone(instance, 'vm_state', vm_states.DELETED) from None
        except nova_exception.UnexpectedDeletingTaskStateError:
            self._drop(context, image, instance)
            raise _gone(instance, 'task_state', task_states.DELETING) from None
        except nova_exception.UnexpectedTaskStateError as error:
            # Another request has taken the instance first.
            self._drop(context, image, instance)
            raise _gone(
                instance, 'task_state', error.kwargs.get('actual', '?')
            ) from None
        self._record_action_start(
            context, instance, instance_actions.CREATE_IMAGE
        )
        self.compute_rpcapi.snapshot_instance(context, instance, image['id'])
        return image

    def _check_quota(
        self, context: RequestContext, instance: objects.Instance
    ) -> None:
        """Check the quota of snapshots, as upstream does before it begins.

        :raises OverQuota: Cinder has no room for a snapshot of each volume
        """
        bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid
        )
        volumes = sum(bdm.is_volume and not bdm.no_device for bdm in bdms)
        limits = self.volume_api.get_absolute_limits(context)
        used, most = limits['totalSnapshotsUsed'], limits['maxTotalSnapshots']
        if most > -1 and used + volumes > most:
            LOG.debug(
                'There are %s snapshots of volumes, %s are wanted, and the '
                'limit is %s',
                used,
                volumes,
                most,
                instance=instance,
            )
            raise nova_exception.OverQuota(overs='snapshots')

    def _create_image(
        self,
        context: RequestContext,
        instance: objects.Instance,
        name: str,
        extra_properties: dict[str, str] | None,
    ) -> dict[str, Any]:
        """The record that upstream creates, but for what is not known yet.

        The driver adds the mapping, and activates the image.
        """
        record = compute_utils.initialize_instance_snapshot_metadata(
            context, instance, name, extra_properties
        )
        for field in ('container_format', 'disk_format'):
            record.pop(field, None)
        properties = record['properties']
        for key in _WRITTEN_ANEW:
            properties.pop(key, None)
        if instance.root_device_name:
            properties['root_device_name'] = instance.root_device_name
        image: dict[str, Any] = self.image_api.create(context, record)
        return image

    def _drop(
        self,
        context: RequestContext,
        image: dict[str, Any],
        instance: objects.Instance,
    ) -> None:
        """Delete the record of an image that will never be made."""
        try:
            self.image_api.delete(context, image['id'])
        except nova_exception.ImageNotFound:
            pass
        except nova_exception.NovaException as error:
            LOG.warning(
                'Image %s of a snapshot that was not begun may be left: %s',
                image['id'],
                error,
                instance=instance,
            )

    def volume_snapshot_create(
        self,
        context: RequestContext,
        volume_id: str,
        create_info: dict[str, Any],
    ) -> dict[str, Any]:
        """Take a snapshot for Cinder, of a volume that is a file.

        Upstream refuses that while the server has a task: here the task may be
        the one that Cinder does this for.
        Source: ``nova.compute.api.API.volume_snapshot_create``.
        """
        bdm = self._get_bdm_by_volume_id(
            context, volume_id, expected_attrs=['instance']
        )

        @compute_api.check_instance_host()
        @compute_api.check_instance_state(
            task_state=_tasks_beside(context, bdm.instance)
        )
        def do_volume_snapshot_create(
            self: API, context: RequestContext, instance: objects.Instance
        ) -> dict[str, Any]:
            self.compute_rpcapi.volume_snapshot_create(
                context, instance, volume_id, create_info
            )
            return {
                'snapshot': {
                    'id': create_info.get('id'),
                    'volumeId': volume_id,
                }
            }

        answer: dict[str, Any] = do_volume_snapshot_create(
            self, context, bdm.instance
        )
        return answer

    def volume_snapshot_delete(
        self,
        context: RequestContext,
        volume_id: str,
        snapshot_id: str,
        delete_info: dict[str, Any],
    ) -> None:
        """Delete a snapshot of a volume that is a file, even during an undo.

        Source: ``nova.compute.api.API.volume_snapshot_delete``.
        """
        bdm = self._get_bdm_by_volume_id(
            context, volume_id, expected_attrs=['instance']
        )

        @compute_api.check_instance_host()
        @compute_api.check_instance_state(
            task_state=_tasks_beside(context, bdm.instance)
        )
        def do_volume_snapshot_delete(
            self: API, context: RequestContext, instance: objects.Instance
        ) -> None:
            if (
                delete_info.get('merge_target_file') is not None
                and instance.vm_state != vm_states.ACTIVE
            ):
                # libvirt's driver can't delete it then, as upstream knows (bug
                # 1919487).
                raise _invalid(
                    instance,
                    'vm_state',
                    instance.vm_state,
                    'volume_snapshot_delete',
                )
            self.compute_rpcapi.volume_snapshot_delete(
                context, instance, volume_id, snapshot_id, delete_info
            )

        do_volume_snapshot_delete(self, context, bdm.instance)


def _tasks_beside(
    context: RequestContext, instance: objects.Instance
) -> tuple[str | None, ...]:
    """The tasks of an instance during which Cinder may ask for a snapshot."""
    if (
        instance.task_state in OF_A_SNAPSHOT
        # Other snapshots are of the root disk, and the volume is another disk.
        and compute_utils.is_volume_backed_instance(context, instance)
    ):
        return (None, *OF_A_SNAPSHOT)
    return (None,)


def _invalid(
    instance: objects.Instance, attribute: str, state: object, method: str
) -> nova_exception.InstanceInvalidState:
    """The error that nova-api answers with 409."""
    return nova_exception.InstanceInvalidState(
        attr=attribute,
        instance_uuid=instance.uuid,
        state=state,
        method=method,
    )


def _gone(
    instance: objects.Instance, attribute: str, state: object
) -> nova_exception.InstanceInvalidState:
    return _invalid(instance, attribute, state, 'snapshot_volume_backed')
