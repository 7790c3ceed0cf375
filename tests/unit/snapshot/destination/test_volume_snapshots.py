# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes, from the request to the image."""

from __future__ import annotations

import json
import threading
from typing import Any

import ddt
import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.hypervisor.power import Power
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.state.cancel_request import CancelRequest
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import cinder_snapshots
from nova_snapshot_driver.takings.cinder_snapshots import CinderSnapshots
from tests.unit import documents
from tests.unit import fake_cinder
from tests.unit import tables
from tests.unit.fake_libvirt import Agent
from tests.unit.volumes_host import SWAP
from tests.unit.volumes_host import VolumesHost

PAUSED = libvirt.VIR_DOMAIN_PAUSED
ASLEEP = libvirt.VIR_DOMAIN_PMSUSPENDED
CRASHED = libvirt.VIR_DOMAIN_CRASHED
SHUTTING_DOWN = libvirt.VIR_DOMAIN_SHUTDOWN
SHUT_OFF = libvirt.VIR_DOMAIN_SHUTOFF


class VolumesCase(testtools.TestCase):
    def on(self, *args: Any, **kwargs: Any) -> VolumesHost:
        host: VolumesHost = self.useFixture(VolumesHost(*args, **kwargs))
        self.before = host.before()
        return host

    def image(self, host: VolumesHost) -> dict[str, Any]:
        return host.glance.images[host.image]

    def fails(
        self, host: VolumesHost, error: type[Exception], **kwargs: Any
    ) -> Any:
        raised = self.assertRaises(error, host.snapshot, **kwargs)
        self.assertEqual([], host.differences(self.before))
        self.assertNotIn(host.image, host.glance.images)
        return raised


class SnapshotTest(VolumesCase):
    def test_image(self) -> None:
        host = self.on()
        snapshot = host.snapshot()
        image = self.image(host)
        self.assertEqual(
            ('active', 0, 'raw', 'bare', 'True'),
            tuple(
                image[field]
                for field in (
                    *('status', 'size', 'disk_format', 'container_format'),
                    'bdm_v2',
                )
            ),
        )
        by_volume = {
            made['volume_id']: made['id']
            for made in host.cinder.snapshots.values()
        }
        self.assertEqual(
            [
                SWAP,
                *(
                    {'boot_index': n, 'snapshot_id': by_volume[volume]}
                    for n, volume in enumerate(host.volumes)
                ),
            ],
            json.loads(image['block_device_mapping']),
        )
        self.assertEqual(by_volume, snapshot.volumes)
        self.assertEqual([], host.differences(self.before))

    def test_what_cinder_is_asked_for(self) -> None:
        host = self.on()
        host.snapshot()
        self.assertEqual(
            [
                {
                    'volume_id': volume,
                    'force': True,
                    'name': 'snapshot for a snapshot',
                    'description': f'of disk {n}',
                    'metadata': {cinder_snapshots.MARK: host.image},
                }
                for n, volume in enumerate(host.volumes)
            ],
            sorted(host.cinder.bodies, key=lambda body: body['volume_id']),
        )

    def test_image_with_a_long_name(self) -> None:
        """Upstream asks Cinder for a name that it refuses."""
        host = self.on(1)
        host.glance.images[host.image]['name'] = 'n' * 255
        host.snapshot()
        [made] = host.cinder.bodies
        self.assertEqual(f'snapshot for {"n" * 242}', made['name'])

    def test_tokens(self) -> None:
        host = self.on(1)
        host.snapshot()
        for headers in host.cinder.headers:
            self.assertIn('t0ken', headers['X-Auth-Token'])
            self.assertIn('s3rvice', headers['X-Service-Token'])

    def test_task_states(self) -> None:
        host = self.on()
        host.snapshot()
        self.assertEqual(
            [
                {'task_state': 'image_pending_upload'},
                {
                    'task_state': 'image_uploading',
                    'expected_state': 'image_pending_upload',
                },
            ],
            host.task_states,
        )

    def test_result(self) -> None:
        host = self.on(agent=Agent.ABSENT)
        snapshot = host.snapshot()
        image = self.image(host)
        self.assertEqual(
            {
                'snapshot_method': 'volumes',
                'snapshot_method_reason': 'the root disk is a volume',
                'snapshot_quiesced': 'false',
                'snapshot_quiesced_reason': 'no agent is running in the guest',
                'snapshot_quiesced_file_systems': '0',
                'snapshot_paused': 'true',
                'snapshot_paused_reason': 'it has several volumes',
                'snapshot_stall_seconds': f'{snapshot.stall_seconds:.3f}',
            },
            {
                name: value
                for name, value in image.items()
                if name.startswith('snapshot_')
            },
        )
        assert snapshot.stall_seconds
        self.assertIn(
            'volumes, 3 of them, not quiesced (no agent is running in the '
            'guest), paused (it has several volumes: 3), still for '
            f'{snapshot.stall_seconds:.3f} s, ',
            str(snapshot),
        )
        self.assertIn(str(snapshot), host.log.output)

    def test_progress(self) -> None:
        host = self.on()
        seen: list[tuple[str, int, int]] = []
        host.snapshot(progress=lambda *step: seen.append(step))
        self.assertEqual(('volumes', 3, 3), seen[-1])

    def test_many_volumes(self) -> None:
        host = self.on(26)
        host.snapshot()
        self.assertEqual(26, len(host.cinder.snapshots))
        self.assertEqual([], host.differences(self.before))

    def test_not_supported(self) -> None:
        """The record stays, and Nova's manager deletes it."""
        host = self.on()
        assert host.machine.config is not None
        host.machine.config = host.machine.config.replace('kvm', 'lxc', 1)
        host.machine.stop()
        self.assertRaises(exception.NotSupported, host.snapshot)
        self.assertEqual({}, host.cinder.snapshots)


@ddt.ddt
class StallTest(VolumesCase):
    @tables.rows(
        {
            # frozen, running at the instant
            'quiesced': ({}, {}, (True, True)),
            'no_agent': ({'agent': Agent.ABSENT}, {}, (False, False)),
            'mute_agent': ({'agent': Agent.HANGS}, {}, (False, False)),
            'both': ({}, {'pause': 'always'}, (True, False)),
            'not_quiesced': ({}, {'quiesce': 'never'}, (False, False)),
            'neither': (
                {},
                {'quiesce': 'never', 'pause': 'never'},
                (False, True),
            ),
            'one_volume': (
                {'volumes': 1, 'agent': Agent.ABSENT},
                {},
                (False, True),
            ),
            'one_volume_quiesced': ({'volumes': 1}, {}, (True, True)),
            'paused': ({'state': PAUSED}, {}, (False, False)),
            'asleep': ({'state': ASLEEP}, {}, (False, False)),
            'asleep_always': (
                {'state': ASLEEP},
                {'pause': 'always'},
                (False, False),
            ),
            'crashed': ({'state': CRASHED}, {}, (False, False)),
            'shutting_down': ({'state': SHUTTING_DOWN}, {}, (False, False)),
            'shut_off': ({'state': SHUT_OFF}, {}, (False, False)),
        }
    )
    def test_guest_at_the_instant(
        self,
        kind: dict[str, Any],
        options: dict[str, str],
        expected: tuple[bool, bool],
    ) -> None:
        host = self.on(**kind)
        for option, value in options.items():
            host.set('snapshot', option, value)
        snapshot = host.snapshot()
        self.assertEqual([expected] * len(host.volumes), host.instants)
        self.assertEqual([], host.differences(self.before))
        still = snapshot.quiesced or snapshot.paused
        self.assertEqual(bool(still), bool(snapshot.stall_seconds))

    def test_goes_on_before_all_are_available(self) -> None:
        """Nova has done its part, and Cinder something left to do."""
        host = self.on(agent=Agent.ABSENT)
        host.cinder.progress = '90%'
        host.cinder.polls = 3
        seen: list[bool] = []
        host.cinder.before = lambda request: seen.append(
            request.startswith('poll')
            and host.machine.state == libvirt.VIR_DOMAIN_PAUSED
        )
        host.snapshot()
        self.assertNotIn(True, seen)
        self.assertIn('poll_1', host.cinder.requests)

    def test_goes_on_when_the_last_is_created(self) -> None:
        host = self.on(agent=Agent.ABSENT)
        host.cinder.polls = 3
        paused: list[bool] = []
        host.cinder.before = lambda request: paused.append(
            host.machine.state == libvirt.VIR_DOMAIN_PAUSED
        )
        host.snapshot()
        self.assertIn(True, paused)
        self.assertEqual([], host.differences(self.before))

    def test_quiesce_that_is_required_and_fails(self) -> None:
        host = self.on()
        host.machine.freeze_fails = True
        self.fails(
            host,
            exception.QuiesceFailed,
            instance=host.backed(quiesce=QuiescePolicy.REQUIRE),
        )
        self.assertNotIn('create_1', host.cinder.requests)

    def test_nothing_is_frozen(self) -> None:
        """The guest is paused, as one without an agent."""
        host = self.on()
        host.machine.file_systems = 0
        snapshot = host.snapshot()
        self.assertFalse(snapshot.quiesced)
        self.assertTrue(snapshot.paused)
        self.assertEqual([(False, False)] * len(host.volumes), host.instants)
        self.assertEqual([], host.differences(self.before))

    def test_nothing_is_frozen_and_it_is_required(self) -> None:
        host = self.on()
        host.machine.file_systems = 0
        self.fails(
            host,
            exception.QuiesceFailed,
            instance=host.backed(quiesce=QuiescePolicy.REQUIRE),
        )
        self.assertNotIn('create_1', host.cinder.requests)

    def test_quiesce_that_is_required_and_impossible(self) -> None:
        host = self.on(agent=Agent.ABSENT)
        self.fails(
            host,
            exception.QuiesceFailed,
            instance=host.backed(quiesce=QuiescePolicy.REQUIRE),
        )

    def test_freeze_that_fails_is_a_pause(self) -> None:
        host = self.on()
        host.machine.freeze_fails = True
        snapshot = host.snapshot()
        self.assertEqual([(False, False)] * 3, host.instants)
        self.assertTrue(snapshot.paused)

    def test_keystone_is_asked_before(self) -> None:
        """Keystone may be slow or away."""
        host = self.on(agent=Agent.ABSENT)
        accesses: list[int] = []
        host.cinder.before = lambda request: accesses.append(
            host.context.accesses
            if host.machine.state == libvirt.VIR_DOMAIN_PAUSED
            else 0
        )
        host.snapshot()
        self.assertEqual(2, len(set(accesses)))

    def test_guest_that_thaws_by_itself(self) -> None:
        """As Windows does after ten seconds."""
        host = self.on()

        def thaw(volume: str) -> None:
            if volume == host.volumes[-1]:
                host.machine.frozen = False

        host.cinder.at_create = thaw
        self.fails(host, exception.FreezeLost)

    def test_pause_that_hangs(self) -> None:
        host = self.on(agent=Agent.ABSENT)
        held = host.machine.pause_is_held = threading.Event()
        self.addCleanup(held.set)
        host.set('snapshot', 'stall_timeout', 1)
        unpause = Power.unpause

        def come_late(power: Power) -> None:
            threading.Timer(0.1, held.set).start()
            unpause(power)

        self.useFixture(fixtures.MockPatchObject(Power, 'unpause', come_late))
        error = self.fails(host, exception.HypervisorTimeout)
        self.assertIn('[snapshot] stall_timeout', str(error))
        self.assertNotIn('create_1', host.cinder.requests)


class BoundTest(VolumesCase):
    def test_cinder_never_cuts(self) -> None:
        """The guest goes on before that is undone."""
        host = self.on(agent=Agent.ABSENT)
        host.set('snapshot', 'stall_timeout', 1)
        host.cinder.polls = 1_000_000
        still: list[bool] = []

        def look(request: str) -> None:
            if request.startswith('list'):
                host.cinder.polls = 1
                still.append(host.machine.state == PAUSED)

        host.cinder.before = look
        error = self.fails(host, exception.VolumeSnapshotsNotCreated)
        self.assertEqual((3, 3), (error.fields['left'], error.fields['total']))
        self.assertEqual({False}, set(still))

    def test_cinder_stops_answering(self) -> None:
        """The request is given up, and has made a snapshot all the same."""
        host = self.on(agent=Agent.ABSENT)
        host.set('snapshot', 'stall_timeout', 1)
        answers = threading.Event()
        self.addCleanup(answers.set)

        def hang() -> tuple[int, Any]:
            answers.wait(4)
            return fake_cinder.silent()

        host.cinder.late_troubles['create_3'] = hang
        timer = threading.Timer(0.5, answers.set)
        timer.start()
        self.addCleanup(timer.cancel)
        self.fails(host, exception.SnapshotError)

    def test_never_available(self) -> None:
        host = self.on()
        host.cinder.progress = '90%'
        host.cinder.polls = 1_000_000
        host.set('snapshot', 'volume_timeout', 1)

        def look(request: str) -> None:
            if request.startswith('list'):
                host.cinder.polls = 1

        host.cinder.before = look
        self.fails(host, exception.VolumeSnapshotTimeout)

    def test_deadline(self) -> None:
        host = self.on()
        host.cinder.progress = '90%'
        host.cinder.polls = 1_000_000
        host.set('snapshot', 'volume_timeout', 1000)
        host.set('snapshot', 'deadline', 1)

        def look(request: str) -> None:
            if request.startswith('list'):
                host.cinder.polls = 1

        host.cinder.before = look
        self.fails(host, exception.DeadlineExceeded)


class CancelTest(VolumesCase):
    def test_while_it_stands_still(self) -> None:
        host = self.on(agent=Agent.ABSENT)
        cancellation = Cancellation()
        host.cinder.at_create = lambda _volume: cancellation.request('SIGTERM')
        self.fails(host, exception.Cancelled, cancellation=cancellation)

    def test_by_an_operator(self) -> None:
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.common.cancellation.LOOK_INTERVAL', 0.01
            )
        )
        host = self.on()
        host.set('snapshot', 'volume_timeout', 60)
        host.cinder.polls = 1_000_000
        host.cinder.progress = '90%'

        def look(request: str) -> None:
            if request == 'poll_2':
                CancelRequest(host.directories.state, documents.UUID).make()
            if request.startswith('list'):
                host.cinder.polls = 1

        host.cinder.before = look
        self.fails(host, exception.CancelledByOperator)


@ddt.ddt
class CinderFailsTest(VolumesCase):
    @tables.rows(
        {
            'error_500': (fake_cinder.internal_error,),
            'error_503': (fake_cinder.unavailable,),
            'over_quota': (fake_cinder.over_limit,),
            'breaks': (fake_cinder.broken,),
            'times_out': (fake_cinder.silent,),
        }
    )
    def test_the_third_of_four(self, trouble: fake_cinder.Trouble) -> None:
        for troubles in ('troubles', 'late_troubles'):
            host = self.on(4)
            getattr(host.cinder, troubles)['create_3'] = trouble
            self.fails(host, exception.CinderError)

    def test_request_is_still_under_way(self) -> None:
        """The late snapshot appears when all others are deleted."""
        host = self.on(4)
        host.cinder.troubles['create_3'] = fake_cinder.silent
        late: list[str] = []

        def look(request: str) -> None:
            if request == 'list_9' and not late:
                late.append(request)
                host.cinder._create(
                    {
                        'volume_id': host.volumes[2],
                        'force': True,
                        'name': '',
                        'description': '',
                        'metadata': {cinder_snapshots.MARK: host.image},
                    }
                )

        self.useFixture(_Late(1.0))
        host.cinder.before = look
        self.fails(host, exception.CinderUnavailable)
        self.assertEqual(['list_9'], late)

    def test_snapshots_of_others_stay(self) -> None:
        host = self.on(2)
        host.cinder._create(
            {
                'volume_id': host.volumes[0],
                'force': True,
                'name': 'mine',
                'description': '',
                'metadata': {cinder_snapshots.MARK: 'another image'},
            }
        )
        host.cinder.troubles['create_2'] = fake_cinder.internal_error
        self.assertRaises(exception.CinderUnavailable, host.snapshot)
        (left,) = host.cinder.snapshots.values()
        self.assertEqual('mine', left['name'])

    def test_ends_in_error(self) -> None:
        host = self.on(4)
        host.cinder.errors = 1
        self.fails(host, exception.VolumeSnapshotFailed)

    def test_ends_in_error_after_the_instant(self) -> None:
        host = self.on(4)
        host.cinder.progress = '90%'
        host.cinder.errors = 1
        self.fails(host, exception.VolumeSnapshotFailed)

    def test_one_look_fails(self) -> None:
        for look in ('poll_1', 'poll_4'):
            host = self.on()
            host.cinder.troubles[look] = fake_cinder.unavailable
            host.snapshot()
            self.assertEqual([], host.differences(self.before))

    def test_no_room(self) -> None:
        """Nothing stands still for that."""
        host = self.on()
        host.cinder.most = 2
        error = self.fails(host, exception.CinderOverLimit)
        self.assertIn('room for 2', str(error))
        self.assertNotIn('create_1', host.cinder.requests)

    def test_no_quota(self) -> None:
        host = self.on()
        host.cinder.most = -1
        host.snapshot()

    def test_quota_is_used_up_by_another_request(self) -> None:
        host = self.on()
        limits = host.cinder._limits

        def use_up() -> tuple[int, Any]:
            answer = limits()
            host.cinder.most = 2
            return answer

        host.cinder.troubles['limits_1'] = use_up
        self.fails(host, exception.CinderOverLimit)

    def test_no_volume(self) -> None:
        host = self.on()
        del host.cinder.volumes[host.volumes[1]]
        error = self.fails(host, exception.VolumeNotFound)
        self.assertIn(host.volumes[1], str(error))

    def test_can_not_be_undone(self) -> None:
        """The journal knows of it until it is."""
        host = self.on()
        host.set('snapshot', 'volume_timeout', 1)
        host.cinder.troubles = {'create_3': fake_cinder.internal_error} | {
            f'list_{n}': fake_cinder.unavailable for n in range(100_000)
        }
        error = self.assertRaises(
            exception.VolumeSnapshotsLeftBehind, host.snapshot
        )
        for volume in host.volumes:
            self.assertIn(volume, str(error))
        self.assertNotIn(host.image, host.glance.images)
        (entry,) = Journal(host.directories.state).entries().found
        self.assertEqual(
            [CinderSnapshots(host.image, host.volumes, documents.PROJECT)],
            entry.of_kind(CinderSnapshots),
        )
        host.cinder.troubles = {}
        host.healer().heal(host.context)
        self.assertEqual([], host.differences(self.before))


class _Late(fixtures.Fixture):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def _setUp(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(
                cinder_snapshots, 'LATE_REQUEST', self._seconds
            )
        )


class GlanceTest(VolumesCase):
    def test_image_is_not_what_was_written(self) -> None:
        host = self.on()
        put = host.glance._put

        def forget(image: str, request: Any) -> Any:
            answer = put(image, request)
            host.glance.images[image]['block_device_mapping'] = '[]'
            return answer

        host.glance._put = forget  # type: ignore[method-assign]
        error = self.fails(host, exception.ImageVerificationFailed)
        self.assertEqual('block_device_mapping', error.fields['field'])

    def test_image_is_gone(self) -> None:
        host = self.on()
        host.cinder.at_create = lambda _volume: host.glance.images.clear()
        self.fails(host, exception.ImageNotFound)
