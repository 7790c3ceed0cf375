# SPDX-License-Identifier: Apache-2.0
"""nova-api: who snapshots a volume-backed server, and what becomes of that."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any
from unittest import mock

import ddt
import fixtures
from nova import exception as nova_exception
from nova import objects
from nova import test
from nova.api.openstack import compute
from nova.compute import api as compute_api
from nova.compute import task_states
from nova.compute import vm_states
from nova.tests.unit.api.openstack import fakes as wsgi_fakes
from nova.tests.unit.api.openstack.compute import test_assisted_snapshots
from nova.tests.unit.api.openstack.compute import test_server_actions
from nova.tests.unit.compute import test_api
from nova.tests.unit.policies import test_servers
from paste.deploy import loadapp

from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.common import version
from nova_snapshot_driver.nova import api
from nova_snapshot_driver.nova import presence
from tests.nova.host import request_context
from tests.nova.upstream import chosen
from tests.nova.volumes_host import PENDING
from tests.nova.volumes_host import VolumesComputeHost
from tests.nova.volumes_host import volume_backed
from tests.unit import tables

#: The filter that asks Keystone, in Nova's api-paste.ini.
AUTH_FILTER = '[filter:authtoken]'

#: The prefix of properties that only this driver writes on an image.
OURS = 'snapshot_'


class OurApi(fixtures.Fixture):
    """A nova-api with the line of this driver in its ``api-paste.ini``.

    :param present: the driver is on the host of every server
    """

    def __init__(self, present: bool) -> None:
        super().__init__()
        self._present = present

    def _setUp(self) -> None:
        self.useFixture(
            fixtures.MonkeyPatch('nova.compute.api.API', compute_api.API)
        )
        api.install()
        self.useFixture(
            fixtures.MockPatchObject(
                presence, 'is_on_host_of', lambda *_: self._present
            )
        )


class AgainstOurApi(test.TestCase):
    """The first base of a class whose second base is one of Nova's.

    No host has the driver: Nova itself snapshots the volumes.
    """

    def setUp(self) -> None:
        self.useFixture(OurApi(present=False))
        super().setUp()
        self.assertIs(api.API, compute_api.API)

    def skipTest(self, reason: str) -> None:
        """Fail: a skipped test proves nothing."""
        raise self.failureException(f'skipped: {reason}')


@chosen('^test_(snapshot|volume_snapshot|backup|vm_delet|shelve|rescue_using)')
class ComputeAPIUnitTestCase(AgainstOurApi, test_api.ComputeAPIUnitTestCase):
    """Snapshots of volumes, and all that is near them."""


@chosen()
class AssistedSnapshotCreateTestCaseV21(
    AgainstOurApi, test_assisted_snapshots.AssistedSnapshotCreateTestCaseV21
):
    # Nova's test replaces a method of its own class; ours has its own.
    test_assisted_create = None

    def test_assisted_create_by_our_class(self) -> None:
        """Run Nova's test with the method of this class in its place."""
        upstream = super().test_assisted_create
        create = mock.Mock()
        with mock.patch.object(api.API, 'volume_snapshot_create', new=create):
            upstream.__wrapped__(self, create)


@chosen()
class AssistedSnapshotDeleteTestCaseV21(
    AgainstOurApi, test_assisted_snapshots.AssistedSnapshotDeleteTestCaseV21
):
    pass


@chosen('image')
class ServerActionsControllerTestV21(
    AgainstOurApi, test_server_actions.ServerActionsControllerTestV21
):
    pass


@chosen('create_image')
class ServersPolicyTest(AgainstOurApi, test_servers.ServersPolicyTest):
    """The policy for snapshots of volume-backed servers."""


class FactoryTest(test.NoDBTestCase):
    def test_controllers_have_our_class(self) -> None:
        self.useFixture(OurApi(present=True))
        with mock.patch.object(
            compute.APIRouterV21,
            'factory',
            lambda *_args, **_kwargs: compute_api.API,
        ):
            self.assertIs(api.API, api.app_factory({}))

    def test_line_in_the_file_of_nova(self) -> None:
        """The factory is loaded as by nova-api; the controller has our API."""
        self.useFixture(OurApi(present=True))
        text = pathlib.Path(sys.prefix, 'etc/nova/api-paste.ini').read_text()
        self.assertIn(api_paste.UPSTREAM, text)
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path, 'p.ini')
        path.write_text(text.replace(api_paste.UPSTREAM, api_paste.OURS))
        section = api_paste.SECTION.removeprefix('app:')
        app = loadapp(f'config:{path}', section)
        used = {
            type(route.defaults['controller'].controller.compute_api)
            for route in app.map.matchlist
            if 'servers' in route.routepath
            and route.defaults.get('action') == 'action'
        }
        self.assertEqual({api.API}, used)

    def test_factory_is_that_of_nova(self) -> None:
        self.useFixture(OurApi(present=True))
        self.assertIsInstance(api.app_factory({}), compute.APIRouterV21)

    def test_loading_is_logged_once(self) -> None:
        """Nova loads the application twice, for v2 and for v2.1."""
        self.useFixture(
            fixtures.MonkeyPatch('nova.compute.api.API', compute_api.API)
        )
        log = self.useFixture(fixtures.FakeLogger(api.LOG.logger.name))
        for _ in range(2):
            api.app_factory({})
        self.assertEqual(
            [
                'Snapshots of volume-backed servers are left to their hosts '
                f'(nova-snapshot-driver {version.installed()})'
            ],
            log.output.splitlines(),
        )


@ddt.ddt
class RouterTest(test.NoDBTestCase):
    """The running nova-api can be asked whether it has loaded this driver."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(OurApi(present=True))

    def answer(self, app: Any, path: str) -> Any:
        request = wsgi_fakes.HTTPRequest.blank(path)
        # The router parses the path, as it does beneath the map of URLs.
        request.environ.update(SCRIPT_NAME='/v2.1', PATH_INFO=path)
        request.environ['nova.context'] = request_context()
        return request.get_response(app)

    @tables.rows(
        {
            'an_answer': ('/extensions/os-volumes', 200),
            'a_fault_of_a_controller': ('/extensions/nothing', 404),
            'no_controller': ('/nothing/at/all', 404),
        }
    )
    def test_header(self, path: str, status: int) -> None:
        """The header is all that differs from an answer of Nova's router."""
        ours = self.answer(api.app_factory({}), path)
        upstream = self.answer(compute.APIRouterV21.factory({}), path)
        self.assertEqual(status, upstream.status_int)
        self.assertEqual(upstream.status, ours.status)
        self.assertEqual(upstream.body, ours.body)
        self.assertEqual(
            version.installed(),
            ours.headers.pop(version.HEADER),
        )
        self.assertEqual(upstream.headerlist, ours.headerlist)

    @tables.rows(
        {
            'v2_1': ('openstack_compute_api_v21',),
            'v2': ('openstack_compute_api_v21_legacy_v2_compatible',),
        }
    )
    def test_keystone_comes_first(self, name: str) -> None:
        """Nobody sees the header without a token."""
        app = loadapp(f'config:{self.paste_file()}', name)
        answer = self.answer(app, '/extensions/os-volumes')
        self.assertEqual(401, answer.status_int)
        self.assertNotIn(version.HEADER, answer.headers)

    def paste_file(self) -> pathlib.Path:
        """Nova's own file, but for our line and the address of Keystone."""
        text = pathlib.Path(sys.prefix, 'etc/nova/api-paste.ini').read_text()
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path, 'p.ini')
        text = text.replace(api_paste.UPSTREAM, api_paste.OURS).replace(
            AUTH_FILTER, f'{AUTH_FILTER}\nwww_authenticate_uri = http://k:5000'
        )
        path.write_text(text)
        return path


class ApiCase(test.NoDBTestCase):
    def setUp(self) -> None:
        with fixtures.MonkeyPatch(
            'nova.tests.fixtures.PolicyFixture', fixtures.Fixture
        ):
            super().setUp()
        self.host: VolumesComputeHost = self.useFixture(VolumesComputeHost())
        self.before = self.host.before()
        self.present = True
        self.useFixture(
            fixtures.MockPatchObject(
                presence, 'is_on_host_of', lambda *_: self.present
            )
        )
        self.api = api.API()
        self.saved: list[tuple[str | None, Any]] = []
        self.refusal: Exception | None = None
        self.useFixture(
            fixtures.MockPatchObject(objects.Instance, 'save', self._save)
        )
        self.useFixture(
            fixtures.MockPatchObject(api.API, '_record_action_start')
        )
        self.action = api.API._record_action_start
        self.useFixture(fixtures.MockPatch('nova.compute.utils.EventReporter'))
        self.rpc = self.useFixture(
            fixtures.MockPatchObject(self.api, 'compute_rpcapi')
        ).mock

    def _save(self, expected_task_state: Any = None) -> None:
        self.saved.append((self.host.instance.task_state, expected_task_state))
        if self.refusal is not None:
            raise self.refusal

    def snapshot(self) -> dict[str, Any]:
        """Snapshot the server, up to the call of its host."""
        image: dict[str, Any] = self.api.snapshot_volume_backed(
            self.host.request_context,
            self.host.instance,
            'by nova-api',
            extra_properties={'colour': 'blue'},
        )
        return image

    def images(self) -> dict[str, Any]:
        """But for the one that every host has."""
        return {
            image: record
            for image, record in self.host.glance.images.items()
            if image != self.host.image
        }


class SnapshotTest(ApiCase):
    def test_goes_to_the_host(self) -> None:
        image = self.snapshot()
        self.assertEqual(
            'queued', self.host.glance.images[image['id']]['status']
        )
        self.rpc.snapshot_instance.assert_called_once_with(
            self.host.request_context, self.host.instance, image['id']
        )
        self.rpc.quiesce_instance.assert_not_called()
        self.assertEqual([(PENDING, [None])], self.saved)
        self.action.assert_called_once_with(
            self.host.request_context, self.host.instance, 'createImage'
        )
        # The API has left all of the snapshot to the host.
        self.assertEqual({}, self.host.cinder.snapshots)

    def test_images_of_both_are_the_same(self) -> None:
        """Property by property: ours, and that of upstream."""
        ours = self.snapshot()['id']
        self.host.take(image=ours)
        mapped = self._mapping(ours)
        self.host.cinder.snapshots.clear()
        bodies, self.host.cinder.bodies = self.host.cinder.bodies, []
        self.present = False
        self.host.instance.task_state = None
        upstream = self.snapshot()['id']
        images = self.host.glance.images
        self.assertEqual('active', images[upstream]['status'])
        own = {'id', 'file', 'block_device_mapping'}
        self.assertEqual(
            {
                name: value
                for name, value in images[upstream].items()
                if name not in own
            },
            {
                name: value
                for name, value in images[ours].items()
                if name not in own and not name.startswith(OURS)
            },
        )
        self.assertEqual(
            [dict(each, snapshot_id=None) for each in self._mapping(upstream)],
            [dict(each, snapshot_id=None) for each in mapped],
        )
        self.assertEqual(
            [None, *self.host.volumes],
            [self._volume_of(each, bodies) for each in mapped],
        )
        # Nor does Cinder see a difference, but for the mark.
        self.assertEqual(
            self.host.cinder.bodies,
            [
                dict(body, metadata={})
                for body in sorted(bodies, key=lambda body: body['volume_id'])
            ],
        )

    def _mapping(self, image: str) -> list[dict[str, Any]]:
        mapping: list[dict[str, Any]] = json.loads(
            self.host.glance.images[image]['block_device_mapping']
        )
        if image not in self._made:
            self._made[image] = dict(self.host.cinder.snapshots)
        return mapping

    def setUp(self) -> None:
        super().setUp()
        self._made: dict[str, dict[str, Any]] = {}

    def _volume_of(
        self, mapping: dict[str, Any], _bodies: list[dict[str, Any]]
    ) -> str | None:
        for made in self._made.values():
            if mapping['snapshot_id'] in made:
                return str(made[mapping['snapshot_id']]['volume_id'])
        return None

    def test_state(self) -> None:
        self.host.instance.vm_state = vm_states.SHELVED_OFFLOADED
        self.assertRaises(nova_exception.InstanceInvalidState, self.snapshot)
        self.assertEqual({}, self.images())

    def test_another_task(self) -> None:
        self.host.instance.task_state = task_states.REBOOTING
        self.assertRaises(nova_exception.InstanceInvalidState, self.snapshot)
        self.assertEqual({}, self.images())

    def test_over_quota(self) -> None:
        self.host.cinder.most = 2
        self.assertRaises(nova_exception.OverQuota, self.snapshot)
        self.assertEqual({}, self.images())
        self.rpc.snapshot_instance.assert_not_called()

    def test_no_quota(self) -> None:
        self.host.cinder.most = -1
        self.snapshot()

    def test_server_vanishes(self) -> None:
        for refusal in (
            nova_exception.InstanceNotFound(instance_id='x'),
            nova_exception.UnexpectedDeletingTaskStateError(
                instance_uuid='x', expected={}, actual={}
            ),
            nova_exception.UnexpectedTaskStateError(
                instance_uuid='x',
                expected={},
                actual={'task_state': 'rebooting'},
            ),
        ):
            self.refusal = refusal
            self.host.instance.task_state = None
            self.assertRaises(
                nova_exception.InstanceInvalidState, self.snapshot
            )
            self.assertEqual({}, self.images())
        self.rpc.snapshot_instance.assert_not_called()

    def test_admin_shares_the_image(self) -> None:
        self.host.request_context = request_context(
            project_id='a-project-of-an-admin', is_admin=True
        )
        self.useFixture(
            fixtures.MockPatchObject(
                self.api.volume_api,
                'get_absolute_limits',
                return_value={
                    'totalSnapshotsUsed': 0,
                    'maxTotalSnapshots': -1,
                },
            )
        )
        share = mock.Mock()
        with mock.patch(
            'nova.image.glance.GlanceImageServiceV2._add_image_member',
            new=share,
        ):
            image = self.snapshot()
        self.assertEqual('shared', self.images()[image['id']]['visibility'])
        share.assert_called_once()


class MixedCloudTest(ApiCase):
    """A host without this driver, or one that is down: as upstream does it."""

    def test_goes_upstreams_way(self) -> None:
        self.present = False
        image = self.snapshot()
        self.assertEqual(
            'active', self.host.glance.images[image['id']]['status']
        )
        self.rpc.snapshot_instance.assert_not_called()
        self.rpc.quiesce_instance.assert_called_once()
        self.assertEqual(3, len(self.host.cinder.snapshots))


@ddt.ddt
class PresenceTest(test.NoDBTestCase):
    """The mark by which nova-api knows the host of an instance."""

    @tables.rows(
        {
            'there': ({presence.STAT: presence.VERSION}, True, True),
            'upstream': ({'failed_builds': '0'}, True, False),
            'nothing': (None, True, False),
            'another_version': ({presence.STAT: '2'}, True, False),
            'down': ({presence.STAT: presence.VERSION}, False, False),
        }
    )
    def test_is_on_host(
        self, stats: dict[str, str] | None, is_up: bool, expected: bool
    ) -> None:
        servicegroup = mock.Mock()
        servicegroup.service_is_up.return_value = is_up
        get = mock.Mock(return_value=objects.ComputeNode(stats=stats))
        with (
            mock.patch.object(
                objects.Service, 'get_by_compute_host', new=mock.Mock()
            ),
            mock.patch.object(
                objects.ComputeNode, 'get_by_host_and_nodename', new=get
            ),
        ):
            self.assertIs(
                expected,
                presence.is_on_host_of(
                    mock.sentinel.context, volume_backed(), servicegroup
                ),
            )
            get.assert_called_once_with(
                mock.sentinel.context, 'a-host', 'a-node'
            )

    def test_no_host(self) -> None:
        self.assertFalse(
            presence.is_on_host_of(
                mock.sentinel.context, volume_backed(host=None), mock.Mock()
            )
        )

    def test_host_is_not_known(self) -> None:
        with mock.patch.object(
            objects.Service,
            'get_by_compute_host',
            new=mock.Mock(
                side_effect=nova_exception.ComputeHostNotFound(host='a-host')
            ),
        ):
            self.assertFalse(
                presence.is_on_host_of(
                    mock.sentinel.context, volume_backed(), mock.Mock()
                )
            )


@ddt.ddt
class AssistedTest(ApiCase):
    """Cinder has Nova snapshot a volume that is a file."""

    def setUp(self) -> None:
        super().setUp()
        bdm = mock.Mock(instance=self.host.instance)
        self.useFixture(
            fixtures.MockPatchObject(
                self.api, '_get_bdm_by_volume_id', return_value=bdm
            )
        )

    def create(self) -> Any:
        return self.api.volume_snapshot_create(
            self.host.request_context, 'a-volume', {'id': 'a-snapshot'}
        )

    def delete(self, **info: Any) -> None:
        self.api.volume_snapshot_delete(
            self.host.request_context, 'a-volume', 'a-snapshot', info
        )

    @tables.rows(
        {str(state): (state,) for state in (None, *api.OF_A_SNAPSHOT)}
    )
    def test_allowed(self, state: str | None) -> None:
        self.host.instance.task_state = state
        self.assertEqual(
            {'snapshot': {'id': 'a-snapshot', 'volumeId': 'a-volume'}},
            self.create(),
        )
        self.rpc.volume_snapshot_create.assert_called_once_with(
            self.host.request_context,
            self.host.instance,
            'a-volume',
            {'id': 'a-snapshot'},
        )
        self.delete()
        self.rpc.volume_snapshot_delete.assert_called_once_with(
            self.host.request_context,
            self.host.instance,
            'a-volume',
            'a-snapshot',
            {},
        )

    def refused(self) -> None:
        for call in (self.create, self.delete):
            self.assertRaises(nova_exception.InstanceInvalidState, call)

    def test_another_task(self) -> None:
        self.host.instance.task_state = task_states.REBOOTING
        self.refused()

    def test_snapshot_of_the_root_disk(self) -> None:
        """As upstream: the volume has no part in it."""
        self.host.instance.task_state = task_states.IMAGE_SNAPSHOT
        self.host.instance.image_ref = 'an-image'
        self.host.bdms = objects.BlockDeviceMappingList(objects=[])
        self.refused()

    def test_intermediary_of_a_guest_that_is_off(self) -> None:
        self.host.instance.task_state = task_states.IMAGE_SNAPSHOT
        self.host.instance.vm_state = vm_states.STOPPED
        self.assertRaises(
            nova_exception.InstanceInvalidState,
            self.delete,
            merge_target_file='a-file',
        )
