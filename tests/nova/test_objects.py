# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import json
from typing import Any

import ddt
import nova.conf
import requests
from keystoneauth1 import fixture as ksa_fixture
from nova import objects as nova_objects

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GLANCE_TIMEOUT
from nova_snapshot_driver.nova import objects
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from tests.nova import keystone
from tests.nova.base import NovaCase
from tests.nova.host import GLOBAL_REQUEST_ID
from tests.nova.host import USER_TOKEN
from tests.nova.host import instance
from tests.nova.host import request_context
from tests.nova.keystone import FakeKeystone
from tests.unit import documents
from tests.unit import tables
from tests.unit.lying_server import LyingServer
from tests.unit.lying_server import document
from tests.unit.lying_server import redirection

CONF = nova.conf.CONF

SERVERS = ['http://one.example.com:9292', 'http://two.example.com:9292']

KERNEL = '6d2f9f43-90ea-4d04-a0c2-b7b30dd93c11'

#: The catalog in the context of a request, as auth_token makes it.
CATALOG = [
    {
        'type': 'image',
        'name': 'glance',
        'endpoints': [
            {
                'region': keystone.REGION,
                'publicURL': keystone.PUBLIC,
                'internalURL': f'{keystone.INTERNAL}/v2/',
            }
        ],
    }
]

#: How Keystone may fail.
TROUBLES: dict[str, tuple[dict[str, Any]]] = {
    'refused': ({'exc': requests.exceptions.ConnectionError},),
    'silent': ({'exc': requests.exceptions.ReadTimeout},),
    'broken_tls': ({'exc': requests.exceptions.SSLError},),
    'unavailable': ({'status_code': 503},),
    'unauthorized': ({'status_code': 401},),
    'not_keystone': ({'text': 'It works!'},),
    # The error of requests for a [glance] cafile that does not exist.
    'no_certificates': (
        {'exc': OSError('Could not find a suitable TLS CA bundle')},
    ),
}


def of_image(**properties: str) -> nova_objects.Instance:
    """The instance of an image with these properties."""
    return instance(
        system_metadata={
            f'image_{name}': value for name, value in properties.items()
        }
    )


@ddt.ddt
class InstanceTest(NovaCase):
    def test_domain_and_owner(self) -> None:
        known = objects.instance_of(instance())
        self.assertEqual(documents.UUID, known.domain)
        self.assertEqual(documents.PROJECT, known.project_id)

    def test_kernel_and_ramdisk(self) -> None:
        ramdisk = '0d6f1a7e-5d52-44a3-8d43-6a4ab5be7d6d'
        known = objects.instance_of(
            instance(kernel_id=KERNEL, ramdisk_id=ramdisk)
        )
        self.assertEqual(
            (KERNEL, ramdisk), (known.kernel_id, known.ramdisk_id)
        )

    @tables.rows(
        {
            'null': (None,),
            'empty': ('',),
            'word': ('None',),
            'small': ('none',),
        }
    )
    def test_no_kernel(self, nothing: str | None) -> None:
        """An image property can't be null, so Nova has written words."""
        known = objects.instance_of(
            instance(kernel_id=nothing, ramdisk_id=nothing)
        )
        self.assertIsNone(known.kernel_id)
        self.assertIsNone(known.ramdisk_id)

    @tables.rows({'null': (None,), 'empty': ('',)})
    def test_no_os_type(self, nothing: str | None) -> None:
        self.assertIsNone(
            objects.instance_of(instance(os_type=nothing)).os_type
        )

    def test_os_type(self) -> None:
        self.assertEqual(
            'windows', objects.instance_of(instance(os_type='windows')).os_type
        )

    def test_container_format(self) -> None:
        known = objects.instance_of(of_image(container_format='ovf'))
        self.assertEqual('ovf', known.container_format)

    def test_image_without_container_format(self) -> None:
        """A server that was booted from a volume has no image at all."""
        known = objects.instance_of(instance(image_ref='', system_metadata={}))
        self.assertEqual('bare', known.container_format)

    @tables.rows({'yes': ('yes',), 'true': ('True',), 'one': ('1',)})
    def test_quiesce_is_required(self, value: str) -> None:
        known = objects.instance_of(of_image(os_require_quiesce=value))
        self.assertIs(QuiescePolicy.REQUIRE, known.quiesce)

    def test_quiesce_is_left_to_the_option(self) -> None:
        for of in (of_image(), of_image(os_require_quiesce='no')):
            self.assertIsNone(objects.instance_of(of).quiesce)

    def test_guest_agent(self) -> None:
        known = objects.instance_of(of_image(hw_qemu_guest_agent='yes'))
        self.assertIs(True, known.guest_agent)

    def test_no_guest_agent(self) -> None:
        """As upstream has it, an agent that is not announced is not asked."""
        for of in (of_image(), of_image(hw_qemu_guest_agent='no')):
            self.assertIs(False, objects.instance_of(of).guest_agent)


class AccessCase(NovaCase):
    def setUp(self) -> None:
        super().setUp()
        self.keystone = self.useFixture(FakeKeystone())

    def glance(self, **options: Any) -> None:
        """Set options of the group [glance]."""
        self.flags(group='glance', **options)

    def service_user(self, sends: bool = True) -> None:
        self.keystone.configure()
        self.flags(group='service_user', send_service_user_token=sends)


@ddt.ddt
class RequesterTest(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.glance(api_servers=SERVERS[:1])
        self.requester = objects.Requester(request_context())

    def test_token_is_that_of_the_user(self) -> None:
        access = self.requester.glance_access()
        self.assertEqual(SERVERS[0], access.endpoint)
        self.assertEqual(USER_TOKEN, access.token)
        self.assertIsNone(access.service_token)

    def test_keystone_is_not_asked_without_need(self) -> None:
        self.service_user(sends=False)
        self.keystone.is_in_trouble(status_code=500)
        self.assertIsNone(self.requester.glance_access().service_token)

    def test_service_token(self) -> None:
        """Glance takes a token that has expired if another comes with it."""
        self.service_user()
        access = self.requester.glance_access()
        self.assertEqual(USER_TOKEN, access.token)
        self.assertEqual(self.keystone.tokens, [access.service_token])

    def test_service_token_is_kept_while_it_is_valid(self) -> None:
        self.service_user()
        tokens = {
            self.requester.glance_access().service_token for _ in range(3)
        }
        self.assertEqual(set(self.keystone.tokens), tokens)
        self.assertEqual(1, len(tokens))

    def test_service_token_is_fresh_when_the_old_one_expires(self) -> None:
        """An upload may outlive a token, and asks for another one."""
        self.service_user()
        self.keystone.lifetime = 30
        old = self.requester.glance_access().service_token
        new = self.requester.glance_access().service_token
        self.assertNotEqual(old, new)
        self.assertEqual(self.keystone.tokens, [old, new])

    def test_service_user_without_configuration(self) -> None:
        """Nova has its requests go out with the user's token alone."""
        self.flags(group='service_user', send_service_user_token=True)
        access = self.requester.glance_access()
        self.assertEqual(USER_TOKEN, access.token)
        self.assertIsNone(access.service_token)

    @tables.rows(TROUBLES)
    def test_keystone_is_away(self, trouble: dict[str, Any]) -> None:
        self.service_user()
        self.keystone.is_in_trouble(**trouble)
        self.assertRaises(
            exception.KeystoneUnavailable, self.requester.glance_access
        )

    def test_keystone_comes_back(self) -> None:
        self.service_user()
        self.keystone.is_in_trouble(status_code=503)
        self.assertRaises(
            exception.KeystoneUnavailable, self.requester.glance_access
        )
        self.keystone.is_well_again()
        self.assertIsNotNone(self.requester.glance_access().service_token)

    def test_configuration_of_keystone_is_not_complete(self) -> None:
        self.service_user()
        CONF.clear_override('auth_url', group='service_user')
        self.assertRaises(
            exception.KeystoneUnavailable, self.requester.glance_access
        )

    def test_user_without_a_token(self) -> None:
        """Glance can be run without Keystone, and then nobody has one."""
        requester = objects.Requester(request_context(auth_token=None))
        self.assertIsNone(requester.glance_access().token)

    def test_servers_take_turns(self) -> None:
        self.glance(api_servers=list(SERVERS))
        endpoints = [self.requester.glance_access().endpoint for _ in range(4)]
        self.assertEqual(SERVERS, sorted(endpoints[:2]))
        self.assertEqual(endpoints[:2], endpoints[2:])

    def test_load_is_spread_over_the_servers(self) -> None:
        self.glance(api_servers=list(SERVERS))
        first = (
            objects.Requester(request_context()).glance_access().endpoint
            for _ in itertools.repeat(None, 200)
        )
        self.assertEqual(set(SERVERS), set(first))

    def test_version_of_the_server_is_left_out(self) -> None:
        for endpoint in ('http://one', 'http://one/', 'http://one/v2/'):
            self.glance(api_servers=[endpoint])
            requester = objects.Requester(request_context())
            self.assertEqual('http://one', requester.glance_access().endpoint)

    def test_endpoint_from_the_catalog(self) -> None:
        self.glance(api_servers=None)
        requester = objects.Requester(request_context(service_catalog=CATALOG))
        self.assertEqual(keystone.INTERNAL, requester.glance_access().endpoint)

    def test_interface_and_region_of_the_endpoint(self) -> None:
        self.glance(api_servers=None, valid_interfaces=['public'])
        requester = objects.Requester(request_context(service_catalog=CATALOG))
        self.assertEqual(keystone.PUBLIC, requester.glance_access().endpoint)
        self.glance(region_name='RegionTwo')
        requester = objects.Requester(request_context(service_catalog=CATALOG))
        self.assertRaises(
            exception.KeystoneUnavailable, requester.glance_access
        )

    def test_endpoint_that_is_configured(self) -> None:
        self.glance(api_servers=None, endpoint_override='http://here:9292')
        requester = objects.Requester(request_context(service_catalog=CATALOG))
        self.assertEqual(
            'http://here:9292', requester.glance_access().endpoint
        )

    def test_catalog_without_images(self) -> None:
        self.glance(api_servers=None)
        for catalog in ([], [{**CATALOG[0], 'type': 'network'}]):
            requester = objects.Requester(
                request_context(service_catalog=catalog)
            )
            self.assertRaises(
                exception.KeystoneUnavailable, requester.glance_access
            )

    def test_tls(self) -> None:
        self.glance(cafile='/ca.pem', certfile='/cert.pem', keyfile='/key.pem')
        access = self.requester.glance_access()
        self.assertEqual('/ca.pem', access.cacert)
        self.assertEqual('/cert.pem', access.certificate)
        self.assertEqual('/key.pem', access.key)
        self.assertFalse(access.insecure)

    def test_insecure(self) -> None:
        self.glance(insecure=True)
        self.assertTrue(self.requester.glance_access().insecure)

    def test_timeout(self) -> None:
        """Nova's default is to wait for ever."""
        self.assertIsNone(CONF.glance.timeout)
        self.assertEqual(
            GLANCE_TIMEOUT, self.requester.glance_access().timeout
        )
        self.glance(timeout=17)
        self.assertEqual(17, self.requester.glance_access().timeout)

    def test_request_id(self) -> None:
        self.assertEqual(
            GLOBAL_REQUEST_ID,
            self.requester.glance_access().global_request_id,
        )

    def test_request_id_of_nova(self) -> None:
        """A user of Nova's own has no request id."""
        context = request_context(global_request_id=None)
        self.assertEqual(
            context.request_id,
            objects.Requester(context).glance_access().global_request_id,
        )


@ddt.ddt
class ServiceUserTest(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.service_user(sends=False)
        self.user = objects.ServiceUser()

    def test_token_is_that_of_nova(self) -> None:
        access = self.user.glance_access()
        self.assertEqual(self.keystone.tokens, [access.token])
        self.assertIsNone(access.service_token)
        self.assertIsNone(access.global_request_id)

    def test_token_is_fresh_when_the_old_one_expires(self) -> None:
        self.keystone.lifetime = 30
        old = self.user.glance_access().token
        new = self.user.glance_access().token
        self.assertNotEqual(old, new)
        self.assertEqual(self.keystone.tokens[-1], new)

    def test_endpoint_from_the_catalog(self) -> None:
        self.assertEqual(keystone.INTERNAL, self.user.glance_access().endpoint)

    def test_interface_and_region_of_the_endpoint(self) -> None:
        self.glance(valid_interfaces=['public'])
        self.assertEqual(keystone.PUBLIC, self.user.glance_access().endpoint)
        self.glance(region_name='RegionTwo')
        self.assertRaises(
            exception.KeystoneUnavailable, self.user.glance_access
        )

    def test_server_that_is_configured(self) -> None:
        self.glance(endpoint_override='http://here:9292')
        self.assertEqual(
            'http://here:9292', self.user.glance_access().endpoint
        )
        self.glance(api_servers=SERVERS)
        self.assertIn(self.user.glance_access().endpoint, SERVERS)

    def test_catalog_without_images(self) -> None:
        self.keystone.has_image_service = False
        error = self.assertRaises(
            exception.KeystoneUnavailable, self.user.glance_access
        )
        self.assertIn('image service', str(error))

    def test_configuration_is_not_complete(self) -> None:
        CONF.clear_override('auth_url', group='service_user')
        self.assertRaises(
            exception.KeystoneUnavailable, self.user.glance_access
        )

    def test_configuration_is_wrong(self) -> None:
        self.flags(group='service_user', auth_type='pasword')
        self.assertRaises(
            exception.KeystoneUnavailable, self.user.glance_access
        )

    def test_not_configured(self) -> None:
        CONF.clear_override('auth_type', group='service_user')
        error = self.assertRaises(
            exception.KeystoneUnavailable, self.user.glance_access
        )
        self.assertIn('[service_user] is not configured', str(error))

    @tables.rows(TROUBLES)
    def test_keystone_is_away(self, trouble: dict[str, Any]) -> None:
        self.keystone.is_in_trouble(**trouble)
        self.assertRaises(
            exception.KeystoneUnavailable, self.user.glance_access
        )

    def test_tls_and_timeout(self) -> None:
        self.glance(insecure=True, timeout=17)
        access = self.user.glance_access()
        self.assertTrue(access.insecure)
        self.assertEqual(17, access.timeout)


class CinderOfServiceUserTest(AccessCase):
    """nova-compute, where it deletes the snapshots of one that died."""

    def setUp(self) -> None:
        super().setUp()
        self.service_user(sends=False)
        self.user = objects.ServiceUser()

    def test_token_and_endpoint(self) -> None:
        access = self.user.cinder_access()
        self.assertEqual(self.keystone.tokens, [access.token])
        self.assertEqual(keystone.CINDER, access.endpoint)

    def test_endpoint_that_is_configured(self) -> None:
        self.flags(
            endpoint_template='http://here:8776/v3/%(project_id)s',
            group='cinder',
        )
        endpoint = self.user.cinder_access().endpoint
        self.assertRegex(endpoint, r'^http://here:8776/v3/[0-9a-f]+$')

    def test_region(self) -> None:
        self.flags(os_region_name='RegionTwo', group='cinder')
        self.assertRaises(
            exception.CinderAccessUnavailable, self.user.cinder_access
        )

    def test_catalog_without_volumes(self) -> None:
        self.keystone.has_volume_service = False
        error = self.assertRaises(
            exception.CinderAccessUnavailable, self.user.cinder_access
        )
        self.assertIn('volumev3 service not found', str(error))

    def test_not_configured(self) -> None:
        CONF.clear_override('auth_type', group='service_user')
        error = self.assertRaises(
            exception.CinderAccessUnavailable, self.user.cinder_access
        )
        self.assertIn('neither [cinder] nor [service_user]', str(error))

    def test_keystone_is_away(self) -> None:
        self.keystone.is_in_trouble(status_code=503)
        self.assertRaises(
            exception.CinderAccessUnavailable, self.user.cinder_access
        )

    def test_timeout(self) -> None:
        """The timeout does not keep a nova-compute from its start."""
        self.flags(timeout=600, group='cinder')
        self.assertEqual(
            objects.START_TIMEOUT, self.user.cinder_access().timeout
        )


@ddt.ddt
class SightTest(AccessCase):
    """Whether Glance and Cinder show all that a project has."""

    @tables.rows(
        {
            'service': (['service'], False),
            'admin': (['service', 'admin'], True),
        }
    )
    def test_service_user(self, roles: list[str], sees: bool) -> None:
        self.service_user(sends=False)
        self.keystone.roles = roles
        user = objects.ServiceUser()
        for project in ('another', None):
            self.assertIs(sees, user.sees(project))

    def test_no_service_user(self) -> None:
        self.assertRaises(
            exception.KeystoneUnavailable, objects.ServiceUser().sees, None
        )

    @tables.rows({'user': (False,), 'admin': (True,)})
    def test_requester(self, is_admin: bool) -> None:
        context = request_context()
        context.is_admin = is_admin
        requester = objects.Requester(context)
        self.assertTrue(requester.sees(context.project_id))
        for project in ('another', None):
            self.assertIs(is_admin, requester.sees(project))


class CinderOfRequesterTest(AccessCase):
    def test_service_token(self) -> None:
        self.service_user()
        self.flags(
            endpoint_template='http://here:8776/v3/%(project_id)s',
            group='cinder',
        )
        access = objects.Requester(request_context()).cinder_access()
        self.assertEqual(USER_TOKEN, access.token)
        self.assertEqual(self.keystone.tokens, [access.service_token])
        self.assertEqual(
            f'http://here:8776/v3/{documents.PROJECT}', access.endpoint
        )

    def test_catalog_of_the_user(self) -> None:
        catalog = [
            {
                'type': 'volumev3',
                'name': 'cinder',
                'endpoints': [
                    {
                        'region': keystone.REGION,
                        'publicURL': f'{keystone.CINDER}/',
                    }
                ],
            }
        ]
        access = objects.Requester(
            request_context(service_catalog=catalog)
        ).cinder_access()
        self.assertEqual(keystone.CINDER, access.endpoint)

    def test_catalog_without_volumes(self) -> None:
        self.assertRaises(
            exception.CinderAccessUnavailable,
            objects.Requester(
                request_context(service_catalog=[])
            ).cinder_access,
        )


@ddt.ddt
class OtherOriginTest(AccessCase):
    """A server in Keystone's place sends Nova's password elsewhere."""

    def setUp(self) -> None:
        super().setUp()
        self.service_user()
        self.lying = self.useFixture(LyingServer())
        self.other = self.useFixture(LyingServer())
        CONF.set_override('auth_url', self.lying.url, group='service_user')

    @tables.rows(
        {
            f'{method.lower()}_{status}': (method, status)
            for method in ('GET', 'POST')
            for status in (301, 302, 303, 305, 307, 308)
        }
    )
    def test_gets_nothing(self, method: str, status: int) -> None:
        versions = json.dumps(
            ksa_fixture.DiscoveryList(href=self.lying.url, v2=False)
        )
        self.lying.answer = lambda asked, path: iter(
            [
                redirection(status, self.other.url + path)
                if asked == method
                else document(versions)
            ]
        )
        for ask, failure in (
            (
                objects.ServiceUser().glance_access,
                exception.KeystoneUnavailable,
            ),
            (
                objects.ServiceUser().cinder_access,
                exception.CinderAccessUnavailable,
            ),
            (
                objects.Requester(
                    request_context(service_catalog=CATALOG)
                ).glance_access,
                exception.KeystoneUnavailable,
            ),
        ):
            error = self.assertRaises(failure, ask)
            self.assertIn(self.other.url, str(error))
            self.assertNotIn(keystone.PASSWORD, str(error))
        self.assertEqual([], self.other.requests)
