# SPDX-License-Identifier: Apache-2.0
"""Errors of the clients' libraries, all of which become errors of ours.

The classes are found in the modules of the libraries: a new one is tried as
soon as it exists.
"""

from __future__ import annotations

import argparse
import http.client
import inspect
import json
import socket
import ssl
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import ddt
import fixtures
import requests
import testtools
import urllib3.exceptions
import warlock.exceptions
import yaml
from cinderclient import exceptions as cinder_exceptions
from glanceclient import exc as glance_exceptions
from jsonschema import exceptions as jsonschema_exceptions
from keystoneauth1 import exceptions as keystone_exceptions
from openstack import exceptions as sdk_exceptions
from openstack.config import loader
from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import CinderAccess
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.cinder import Cinder
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.cmd.shared import cloud
from nova_snapshot_driver.transfer.jobs.image_data import ImageData
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import NoCloud

#: The errors of the libraries below the clients, and of Python.
BELOW = (
    requests.exceptions,
    urllib3.exceptions,
    http.client,
    ssl,
    socket,
    json,
)

LIBRARIES: dict[str, tuple[types.ModuleType, ...]] = {
    'glance': (
        glance_exceptions,
        warlock.exceptions,
        jsonschema_exceptions,
        keystone_exceptions,
        *BELOW,
    ),
    'cinder': (cinder_exceptions, keystone_exceptions, *BELOW),
    'cloud': (sdk_exceptions, keystone_exceptions, yaml, *BELOW),
    'configuration': (cfg, yaml),
}

#: The errors that any client may let through.
ANY: tuple[type[Exception], ...] = (
    Exception,
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    StopIteration,
    TimeoutError,
    TypeError,
    UnicodeError,
    ValueError,
)

WORDS = '<html><body><h1>It is\n\nbroken</h1> with t0ken</body></html>'


def classes(client: str) -> dict[str, tuple[type[Exception]]]:
    """Every class of error in the modules of a client's libraries."""
    found = {
        f'{module.__name__}.{name}': (each,)
        for module in LIBRARIES[client]
        for name, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Exception)
    }
    return found | {each.__name__: (each,) for each in ANY}


def instance(kind: type[Exception]) -> Exception:
    """An error with a text, whatever its constructor takes."""
    for number in range(1, 6):
        try:
            error = kind(*[WORDS] * number)
            str(error)
        except Exception:
            continue
        return error
    return kind.__new__(kind)


def raising(kind: type[Exception]) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise instance(kind)

    return fail


class ClientCase(testtools.TestCase):
    def assert_one_line(
        self,
        family: type[exception.SnapshotError],
        call: Callable[[], object],
    ) -> exception.SnapshotError:
        error = self.assertRaises(exception.SnapshotError, call)
        self.assertIsInstance(error, family)
        message = str(error)
        self.assertTrue(message.isprintable(), message)
        self.assertNotIn('<h1>', message)
        self.assertNotIn(': .', message)
        return error

    def assert_no_secret(self, error: exception.SnapshotError) -> None:
        self.assertNotIn('t0ken', str(error))


@ddt.ddt
class EveryClassTest(ClientCase):
    @tables.rows(classes('glance'))
    def test_glance(self, kind: type[Exception]) -> None:
        glance = Glance(GlanceAccess('http://glance', token='t0ken'))
        self.useFixture(
            fixtures.MockPatchObject(
                glance._client.http_client.session, 'request', raising(kind)
            )
        )
        for call in (
            lambda: glance.create(name='a'),
            lambda: glance.get('an-image'),
            lambda: glance.update('an-image', os_type='linux'),
            lambda: glance.remove_properties('an-image', ['os_type']),
            lambda: glance.activate_empty('an-image'),
        ):
            self.assert_no_secret(
                self.assert_one_line(exception.GlanceError, call)
            )

    @tables.rows(classes('glance'))
    def test_glance_as_the_client_raises_it(
        self, kind: type[Exception]
    ) -> None:
        glance = Glance(GlanceAccess('http://glance', token='t0ken'))
        self.useFixture(
            fixtures.MockPatchObject(
                glance._client.images, 'get', raising(kind)
            )
        )
        self.assert_one_line(
            exception.GlanceError, lambda: glance.get('an-image')
        )

    @tables.rows(classes('glance'))
    def test_way_to_glance(self, kind: type[Exception]) -> None:
        self.useFixture(
            fixtures.MockPatch(
                'nova_snapshot_driver.clients.glance.client.Client',
                raising(kind),
            )
        )
        self.assert_one_line(
            exception.GlanceError,
            lambda: Glance(GlanceAccess('http://glance', token='t0ken')),
        )

    @tables.rows(classes('glance'))
    def test_image_data(self, kind: type[Exception]) -> None:
        data = ImageData(
            GlanceAccess('http://glance', token='t0ken'), 'an-image'
        )
        self.useFixture(
            fixtures.MockPatch('requests.Session.request', raising(kind))
        )
        for call in (data.image, lambda: data.send([b'image'], 5)):
            self.assert_no_secret(
                self.assert_one_line(exception.GlanceError, call)
            )

    @tables.rows(classes('cinder'))
    def test_cinder(self, kind: type[Exception]) -> None:
        cinder = Cinder(CinderAccess('http://cinder', token='t0ken'))
        self.useFixture(
            fixtures.MockPatch('requests.Session.request', raising(kind))
        )
        for call in (
            lambda: cinder.volume('a-volume'),
            cinder.room_for_snapshots,
            lambda: cinder.create_snapshot('a-volume', 'a', None, {}),
            lambda: cinder.snapshot('a-snapshot'),
            lambda: cinder.snapshots_of('a-volume'),
            lambda: cinder.delete_snapshot('a-snapshot'),
        ):
            self.assert_no_secret(
                self.assert_one_line(exception.CinderError, call)
            )

    @tables.rows(classes('cinder'))
    def test_cinder_as_the_client_raises_it(
        self, kind: type[Exception]
    ) -> None:
        cinder = Cinder(CinderAccess('http://cinder', token='t0ken'))
        self.useFixture(
            fixtures.MockPatchObject(
                cinder._client.volumes, 'get', raising(kind)
            )
        )
        self.assert_one_line(
            exception.CinderError, lambda: cinder.volume('a-volume')
        )

    @tables.rows(classes('cloud'))
    def test_cloud_that_can_not_be_found(self, kind: type[Exception]) -> None:
        self.useFixture(NoCloud())
        self.useFixture(
            fixtures.MockPatchObject(
                loader.OpenStackConfig, 'get_one', raising(kind)
            )
        )
        self._is_no_cloud(exception.NoCloud)

    @tables.rows(classes('cloud'))
    def test_cloud_that_can_not_be_asked(self, kind: type[Exception]) -> None:
        for broken in (
            'get_session',
            'get_session_endpoint',
            'get_requests_verify_args',
        ):
            region = _Region()
            setattr(region, broken, raising(kind))
            self.useFixture(
                fixtures.MockPatchObject(
                    loader.OpenStackConfig,
                    'get_one',
                    lambda _loader, region=region, **_names: region,
                )
            )
            self._is_no_cloud(exception.CloudUnavailable)

    def _is_no_cloud(self, family: type[exception.SnapshotError]) -> None:
        arguments = argparse.Namespace(os_cloud=None, glance_url=None)
        self.assert_one_line(
            family,
            lambda: cloud.of(arguments, conf.load([])).glance_access(),
        )

    @tables.rows(classes('configuration'))
    def test_configuration(self, kind: type[Exception]) -> None:
        command = self.useFixture(CommandLine())
        self.useFixture(fixtures.MockPatchObject(conf, 'load', raising(kind)))
        result = command.run('status', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('configuration-invalid', result.json['error']['code'])
        self.assertEqual(1, len(result.errors.splitlines()), result.errors)


class _Region:
    """A region of a cloud in openstacksdk."""

    def __init__(self) -> None:
        self.session = requests.Session()

    def get_session(self) -> Any:
        return self

    def get_token(self) -> str:
        return 't0ken'

    def get_session_endpoint(self, _service: str) -> str:
        return 'http://glance'

    def get_requests_verify_args(self) -> tuple[bool, None]:
        return True, None


#: The statuses that no retry mends. Everything else may pass.
FOR_EVER = {
    'url': 'http://[::1',
    'scheme': 'glance',
    'port': 'http://glance:a-port',
}


@ddt.ddt
class ForEverTest(ClientCase):
    @tables.rows({name: (url,) for name, url in FOR_EVER.items()})
    def test_address(self, url: str) -> None:
        for call in (
            lambda: Glance(GlanceAccess(url)).get('an-image'),
            ImageData(GlanceAccess(url), 'an-image').image,
        ):
            error = self.assert_one_line(exception.GlanceError, call)
            self.assertNotIsInstance(error, exception.GlanceUnavailable)

    @tables.rows(
        {'line': ('a\nb-t0ken',), 'space': (' b-t0ken',), 'letter': ('я',)}
    )
    def test_token(self, token: str) -> None:
        data = ImageData(GlanceAccess('http://localhost', token), 'an-image')
        error = self.assert_one_line(exception.GlanceError, data.image)
        self.assertNotIsInstance(error, exception.GlanceUnavailable)
        self.assert_no_secret(error)

    def test_blocks_that_can_not_be_made(self) -> None:
        """A failure to read blocks is no fault of Glance."""

        def blocks() -> Iterator[bytes]:
            yield b'im'
            raise KeyError('a fault of the encoder')

        data = ImageData(GlanceAccess('http://glance'), 'an-image')
        self.useFixture(
            fixtures.MockPatch(
                'requests.Session.request',
                lambda *_, data, **__: b''.join(data),
            )
        )
        self.assertRaises(KeyError, data.send, blocks(), 5)
