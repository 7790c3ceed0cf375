# SPDX-License-Identifier: Apache-2.0
"""Nova's own tests of its driver, run against this one.

They rebind what stands around Nova's driver. What this driver works with
stands deeper, and gets here what is the same there: a libvirt with the domain
that the test means, a data plane without a process, and a Glance that is the
image service of the test.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import functools
import http
import inspect
import json
import re
import sys
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import TypeVar

import fixtures
import libvirt
import nova.conf
import requests_mock
from nova import exception as nova_exception
from nova import objects
from nova import test
from nova.compute import power_state
from nova.storage import rbd_utils
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_concurrency import processutils
from testtools.content import text_content

from nova_snapshot_driver import exception
from nova_snapshot_driver.driver import SnapshotDriver
from nova_snapshot_driver.hypervisor.host import Host
from nova_snapshot_driver.nova.compute import LibvirtSnapshotDriver
from tests.faults import Fault
from tests.faults import Interposer
from tests.faults import Kind
from tests.faults import Step
from tests.unit import documents
from tests.unit.fake_data_plane import FakeDataPlane
from tests.unit.fake_glance import Answer
from tests.unit.fake_glance import FakeGlance
from tests.unit.fake_glance import Request
from tests.unit.fake_libvirt import FakeConnection
from tests.unit.fake_qemu_img import FakeQemuImg
from tests.unit.host import NoWaiting

CONF = nova.conf.CONF

# Nova's own connection is never closed.
fakelibvirt.Connection.close = lambda _connection: 0

#: Nova's own, whatever its name is bound to.
UPSTREAM = libvirt_driver.LibvirtDriver

Case = TypeVar('Case', bound=type[Any])
Method = TypeVar('Method', bound=Any)


class Way(enum.Enum):
    """The taker of a test's snapshot."""

    #: No snapshot is taken: the test is about something else.
    NONE = 'nobody'
    ENGINE = 'this driver'
    #: The driver refuses: the domain does not exist.
    REFUSED = 'nobody, though this driver was asked'
    #: The driver refuses, and Nova's own takes the snapshot.
    UPSTREAM = 'upstream'


@dataclasses.dataclass
class Count:
    """The counts of the calls of ``snapshot()``.

    :ivar entered: how often this driver's was called
    :ivar engine: how often the engine took it, whether it has succeeded
    :ivar upstream: how often it went to Nova's own
    """

    entered: int = 0
    engine: int = 0
    upstream: int = 0

    def __str__(self) -> str:
        return (
            f'snapshot() was entered {self.entered} times; this driver took '
            f'{self.engine}, upstream {self.upstream}'
        )

    def add(self, other: Count) -> None:
        self.entered += other.entered
        self.engine += other.engine
        self.upstream += other.upstream


def stands_for(method: Callable[..., Any]) -> Callable[[Method], Method]:
    """Give what is called instead of a method the signature of that method.

    Nova compares signatures, and does not follow ``__wrapped__``.
    """

    def decorate(stand_in: Method) -> Method:
        stand_in.__signature__ = inspect.signature(method)
        return stand_in

    return decorate


class CountedSnapshots(fixtures.Fixture):
    """Counts who takes the snapshots."""

    def _setUp(self) -> None:
        self.count = count = Count()
        ours, engine, upstream = (
            driver.snapshot
            for driver in (LibvirtSnapshotDriver, SnapshotDriver, UPSTREAM)
        )

        @stands_for(ours)
        def enter(*args: Any, **kwargs: Any) -> Any:
            count.entered += 1
            try:
                return ours(*args, **kwargs)
            except ErrorOfTest as error:
                raise error.error from None

        def take(*args: Any, **kwargs: Any) -> Any:
            count.engine += 1
            try:
                return engine(*args, **kwargs)
            except exception.NotSupported:
                count.engine -= 1
                raise

        def fall_back(*args: Any, **kwargs: Any) -> Any:
            count.upstream += 1
            return upstream(*args, **kwargs)

        for driver, method in (
            (LibvirtSnapshotDriver, enter),
            (SnapshotDriver, take),
            (UPSTREAM, fall_back),
        ):
            self.useFixture(
                fixtures.MockPatchObject(driver, 'snapshot', method)
            )


class ErrorOfTest(BaseException):
    """An error that one of Nova's tests has its image service raise.

    Nobody on the way is to take it for an answer of Glance.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class ImageService(FakeGlance):
    """Glance's API, before the image service of one of Nova's tests.

    :param service: a ``GlanceFixture``
    """

    def __init__(self, service: Any) -> None:
        super().__init__()
        self._service = service

    def answer(self, request: Request) -> Answer:
        before = self._records()
        self.images = self._records()
        answer = super().answer(request)
        for image, record in self.images.items():
            changed = {
                name: value
                for name, value in record.items()
                if before.get(image, {}).get(name) != value
            }
            try:
                if changed:
                    self._service.update(None, image, _as_nova(changed))
            except nova_exception.ImageNotFound:
                return Answer(http.HTTPStatus.NOT_FOUND)
            except Exception as error:
                raise ErrorOfTest(error) from error
        for image in before.keys() - self.images.keys():
            self._service.delete(None, image)
        return answer

    def _records(self) -> dict[str, dict[str, Any]]:
        return {
            str(image['id']): _as_glance(image)
            for image in self._service.detail(None)
        }


#: The fields of an image in Glance, beside its properties.
FIELDS = (
    *('id', 'name', 'status', 'size', 'min_disk', 'min_ram'),
    *('disk_format', 'container_format', 'os_hash_algo', 'os_hash_value'),
)


def _as_glance(image: dict[str, Any]) -> dict[str, Any]:
    record = {name: image.get(name) for name in FIELDS}
    if record['status'] != 'active':
        # The tests of Nova have a word of their own for it.
        record['status'] = 'queued'
    properties = image.get('properties', {})
    return record | {
        name: str(value)
        for name, value in properties.items()
        if value is not None
    }


def _as_nova(record: dict[str, Any]) -> dict[str, Any]:
    properties = {
        name: value for name, value in record.items() if name not in FIELDS
    }
    fields = {name: record[name] for name in FIELDS if name in record}
    return {**fields, 'properties': properties}


class UpstreamCeph:
    """Ceph's commands, before the ``RBDDriver`` of one of Nova's tests.

    What the engine has Ceph do is asked of that, in upstream's own words.
    """

    SIZE = 2 << 30

    def __init__(self) -> None:
        self._snapshots: dict[str, str] = {}

    def execute(self, *command: str, **_how: Any) -> tuple[str, str]:
        program, *arguments = command
        words = [program]
        while arguments and not arguments[0].startswith('-'):
            words.append(arguments.pop(0))
        return self.run(' '.join(words), arguments), ''

    def run(self, name: str, arguments: list[str]) -> str:
        options = dict(zip(arguments[::2], arguments[1::2], strict=True))
        try:
            answer = self._run(name, options)
        except RuntimeError as error:
            # Act as if the command were not installed: the test lacks it.
            raise FileNotFoundError(name) from error
        except nova_exception.Forbidden as error:
            raise processutils.ProcessExecutionError(
                exit_code=errno.EPERM, stderr=str(error)
            ) from error
        return answer if isinstance(answer, str) else json.dumps(answer)

    def _run(self, name: str, options: dict[str, str]) -> Any:
        ceph = rbd_utils.RBDDriver()
        pool = options.get('--pool', '')
        image = options.get('--image', '')
        snapshot = options.get('--snap', '')
        match name:
            case 'ceph fsid':
                ceph.get_fsid()
                return 'a-cluster'
            case 'rbd info':
                return {'size': self.SIZE, **self._parent(ceph, image)}
            case 'rbd snap ls':
                name = self._snapshots.get(image, '')
                return [{'name': name, 'protected': False}] if name else []
            case 'rbd snap create':
                self._snapshots[image] = snapshot
                ceph.create_snap(image, snapshot, pool=pool, protect=True)
            case 'rbd clone':
                location = {'url': f'rbd://a/{pool}/{image}/{snapshot}'}
                ceph.clone(
                    location,
                    options['--dest'],
                    dest_pool=options['--dest-pool'],
                )
            case 'rbd flatten':
                ceph.flatten(image, pool=pool)
            case 'rbd snap rm':
                del self._snapshots[image]
                _cluster, pool, found, snapshot = ceph.parse_url('')
                ceph.remove_snap(
                    found,
                    snapshot,
                    # The snapshot of the clone, which is no image's yet.
                    ignore_errors=options['--snap'] == 'snap',
                    pool=pool,
                    force=True,
                )
        return ''

    def _parent(self, ceph: Any, image: str) -> dict[str, Any]:
        try:
            pool, _image, snapshot = ceph.parent_info(image)
        except (nova_exception.ImageUnacceptable, ValueError):
            return {}
        return {
            'parent': {
                'pool': pool,
                'image': '',
                'snapshot': snapshot or '-',
            }
        }


class Engine(fixtures.Fixture):
    """The surroundings of the engine in one of Nova's tests.

    :param image_service: of the test
    :ivar domain_vanishes: libvirt knows the domain no more when its disk is
        to be backed up
    """

    def __init__(self, image_service: Any) -> None:
        super().__init__()
        self._image_service = image_service
        self.domain_vanishes = False
        self._connection: Any = None

    def _setUp(self) -> None:
        self.useFixture(NoWaiting())
        ceph = UpstreamCeph()
        for module, commands in (
            ('clients.qemu_img', FakeProcessUtils(FakeQemuImg())),
            ('clients.rbd', FakeProcessUtils(ceph)),
        ):
            self.useFixture(
                fixtures.MockPatch(
                    f'nova_snapshot_driver.{module}.processutils', commands
                )
            )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.state.workspace.free_bytes',
                lambda _directory: 1 << 50,
            )
        )
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.transfer.nbd.libnbd.is_available',
                return_value=True,
            )
        )
        glance = ImageService(self._image_service)
        mocker = requests_mock.Mocker()
        mocker.start()
        self.addCleanup(mocker.stop)
        glance.mocked(mocker)
        data_plane = FakeDataPlane(glance, ceph)
        for call in ('run', 'started'):
            self.useFixture(
                fixtures.MockPatch(
                    f'nova_snapshot_driver.transfer.data_plane.{call}',
                    getattr(data_plane, call),
                )
            )
        directory = self.useFixture(fixtures.TempDir()).path
        CONF.set_override('state_directory', directory, group='snapshot')
        # The tests have no database.
        self.useFixture(
            fixtures.MockPatch(
                'nova.objects.BlockDeviceMappingList.get_by_instance_uuid',
                lambda _context, _uuid: objects.BlockDeviceMappingList(
                    objects=[]
                ),
            )
        )

    def attach(self, driver: Any, instance: Any) -> None:
        """Let the engine see the domain that the test has for upstream."""
        if self._connection is None:
            self._connection = self._libvirt(driver, instance)
        connection = self._connection

        class OtherHost(Host):
            def __init__(self, _connection: Any, _reconnect: Any) -> None:
                super().__init__(connection)

        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.nova.compute.Host', OtherHost
            )
        )

    def _libvirt(self, driver: Any, instance: Any) -> Any:
        connection = FakeConnection()
        try:
            guest = driver._host.get_guest(instance)
        except nova_exception.InstanceNotFound:
            return connection
        path, image_format = libvirt_utils.find_disk(guest)
        kind = libvirt_utils.get_disk_type_from_path(path)
        machine = connection.add(
            documents.inactive(
                _disk(path, image_format, kind),
                uuid=instance.uuid,
                hypervisor='parallels' if kind == 'ploop' else 'kvm',
            )
        )
        state = guest.get_power_state(driver._host)
        if state != power_state.SHUTDOWN:
            machine.start(
                libvirt.VIR_DOMAIN_PAUSED
                if state == power_state.PAUSED
                else libvirt.VIR_DOMAIN_RUNNING
            )
        if not self.domain_vanishes:
            return connection
        fault = Fault(Step(0, 'backupBegin', 1), Kind.MEANWHILE)
        return Interposer(connection, fault, machine.vanish).connection


class FakeProcessUtils:
    """``oslo_concurrency.processutils``, for the engine alone.

    :param commands: that the engine is to meet
    """

    def __init__(self, commands: FakeQemuImg | UpstreamCeph) -> None:
        self.execute = commands.execute

    def __getattr__(self, name: str) -> Any:
        return getattr(processutils, name)


def _disk(path: str, image_format: str | None, kind: str | None) -> str:
    match kind:
        case None | 'ploop':
            return documents.file_disk(
                path, image_format=image_format or 'raw'
            )
        case 'lvm':
            return BLOCK_DISK.format(path=path)
        case 'rbd':
            return NETWORK_DISK
    raise AssertionError(f'nobody knows a disk of the type {kind}')


BLOCK_DISK = """\
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source dev='{path}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
"""

NETWORK_DISK = """\
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='writeback'/>
      <source protocol='rbd' name='some/fake'/>
      <target dev='vda' bus='virtio'/>
    </disk>
"""


class AgainstOurDriver(test.TestCase):
    """The first base of a class whose second base is one of Nova's.

    :cvar way: who takes the snapshots
    :cvar ways: who takes those that differ from that, by the test
    :cvar count: of all tests of the class so far
    :cvar tests: how many those are
    """

    way = Way.NONE
    ways: ClassVar[Mapping[str, Way]] = {}
    count = Count()
    tests = 0

    def setUp(self) -> None:
        self._own_static_methods()
        # Replace the names that a test of Nova's looks up itself.
        for name in ('driver.LibvirtDriver', 'LibvirtDriver'):
            self.useFixture(
                fixtures.MonkeyPatch(
                    f'nova.virt.libvirt.{name}', LibvirtSnapshotDriver
                )
            )
        with fixtures.MonkeyPatch(
            'nova.tests.fixtures.PolicyFixture', fixtures.Fixture
        ):
            super().setUp()
        if hasattr(self, 'image_service'):
            self._have_an_engine()
        self._snapshots = self.useFixture(CountedSnapshots())
        self.addCleanup(self._check_way)

    def _own_static_methods(self) -> None:
        """A mock takes the static method of a base for an ordinary one."""
        for name, method in vars(UPSTREAM).items():
            if isinstance(method, staticmethod):
                setattr(LibvirtSnapshotDriver, name, method)
                self.addCleanup(delattr, LibvirtSnapshotDriver, name)

    def _have_an_engine(self) -> None:
        directory = self.useFixture(fixtures.TempDir()).path
        self.flags(snapshots_directory=directory, group='libvirt')
        self.engine = self.useFixture(Engine(self.image_service))
        snapshot = LibvirtSnapshotDriver.snapshot

        @stands_for(snapshot)
        def attached(
            driver: Any, context: Any, instance: Any, *args: Any
        ) -> Any:
            self.engine.attach(driver, instance)
            return snapshot(driver, context, instance, *args)

        self.useFixture(
            fixtures.MockPatchObject(
                LibvirtSnapshotDriver, 'snapshot', attached
            )
        )

    def skipTest(self, reason: str) -> None:
        """Fail: a skipped test proves nothing."""
        raise self.failureException(f'skipped: {reason}')

    def _check_way(self) -> None:
        count = self._snapshots.count
        type(self).tests += 1
        type(self).count.add(count)
        self.addDetail('snapshots', text_content(str(count)))
        way = self.ways.get(self._testMethodName, self.way)
        expected = {
            Way.NONE: Count(),
            Way.ENGINE: Count(entered=1, engine=1),
            Way.REFUSED: Count(entered=1),
            Way.UPSTREAM: Count(entered=1, upstream=1),
        }[way]
        self.assertEqual(expected, count, f'to be taken by {way.value}')
        # A few of Nova's tests accept the refusal.
        self.assertNotIn('does not implement', self.stdlog.logger.output)

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        print(
            f'{cls.__name__}: in {cls.tests} tests {cls.count}',
            file=sys.stderr,
        )
        if cls.tests < len(names_of_tests(cls)):
            return
        if cls.way is not Way.NONE:
            assert cls.count.entered, 'snapshot() was never entered'
        if cls.way is Way.ENGINE:
            assert cls.count.engine, 'the engine never took a snapshot'


def names_of_tests(case: type[Any]) -> list[str]:
    """As unittest finds them."""
    return [
        name
        for name in dir(case)
        if name.startswith('test') and callable(getattr(case, name))
    ]


def chosen(
    name: str = '', not_held: Mapping[str, str] | None = None
) -> Callable[[Case], Case]:
    """Run those of Nova's tests whose name matches, and no others.

    :param name: a regular expression
    :param not_held: tests that can't hold for this driver, and why; it is an
        error if one holds, or if there is none of that name
    """

    def decorate(case: Case) -> Case:
        for test_name in names_of_tests(case):
            if not re.search(name, test_name):
                # Hide the test from unittest.
                setattr(case, test_name, None)
        for test_name, reason in (not_held or {}).items():
            test_method = getattr(case, test_name)
            setattr(case, test_name, _not_held(test_method, reason))
        case.count = Count()
        assert names_of_tests(case), f'no test of {case} is chosen'
        return case

    return decorate


def _not_held(
    test_method: Callable[[Any], None], reason: str
) -> Callable[[Any], None]:
    @functools.wraps(test_method)
    def expected_to_fail(case: Any) -> None:
        case.expectFailure(reason, test_method, case)

    return expected_to_fail
