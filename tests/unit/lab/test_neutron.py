# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import ddt
import testtools

from lab.cloud import neutron
from tests.unit import tables

OK = '200 OK'
CREATED = '201 Created'
BAD_REQUEST = '400 Bad Request'
NOT_FOUND = '404 Not Found'

UNKNOWN = '5823128f-1436-4145-9394-613e6c691111'


def ask(
    method: str, path: str, document: Any = None, body: bytes = b''
) -> tuple[str, Any]:
    """The status and the document that answer a request."""
    if document is not None:
        body = json.dumps(document).encode()
    environ = {
        'REQUEST_METHOD': method,
        'SCRIPT_NAME': '',
        'PATH_INFO': path,
        'QUERY_STRING': '',
        'CONTENT_LENGTH': str(len(body)),
        'HTTP_HOST': '127.0.0.1:9696',
        'wsgi.input': io.BytesIO(body),
    }
    setup_testing_defaults(environ)
    status: list[str] = []

    def start_response(line: str, *_headers: Any) -> Any:
        status.append(line)

    chunks: Any = validator(neutron.application)(environ, start_response)
    try:
        answer = b''.join(chunks)
    finally:
        chunks.close()
    return status[0], json.loads(answer)


@ddt.ddt
class NeutronTest(testtools.TestCase):
    def get(self, path: str) -> Any:
        status, document = ask('GET', path)
        self.assertEqual(OK, status)
        return document

    def assert_refused(
        self, status: str, kind: str, *request: Any, **body: Any
    ) -> None:
        """The error has what the clients of Neutron read of it."""
        found, document = ask(*request, **body)
        self.assertEqual(status, found)
        error = document.pop('NeutronError')
        self.assertEqual({}, document)
        self.assertEqual({'type', 'message', 'detail'}, set(error))
        self.assertEqual(kind, error['type'])
        self.assertNotEqual('', error['message'])

    def test_version(self) -> None:
        [version] = self.get('/')['versions']
        self.assertEqual('v2.0', version['id'])
        [link] = version['links']
        self.assertEqual('http://127.0.0.1:9696/v2.0/', link['href'])

    def test_every_resource_it_names_is_there(self) -> None:
        resources = self.get('/v2.0/')['resources']
        self.assertNotEqual([], resources)
        for resource in resources:
            [link] = resource['links']
            path = link['href'].removeprefix('http://127.0.0.1:9696')
            self.assertEqual({resource['collection']: []}, self.get(path))

    @tables.rows(
        {
            'networks': ('/v2.0/networks', 'networks'),
            'in two words': ('/v2.0/security-groups', 'security_groups'),
            'with a format': ('/v2.0/ports.json', 'ports'),
            'with a slash': ('/v2.0/extensions/', 'extensions'),
        }
    )
    def test_nothing_is_there(self, path: str, collection: str) -> None:
        self.assertEqual({collection: []}, self.get(path))

    @tables.rows(
        {
            'of a project': ('/v2.0/quotas/a-project',),
            'by default': ('/v2.0/quotas/a-project/default',),
        }
    )
    def test_quotas_have_no_limit(self, path: str) -> None:
        quota = self.get(path)['quota']
        self.assertEqual({-1}, set(quota.values()))
        self.assertIn('port', quota)

    def test_nothing_is_used_of_a_quota(self) -> None:
        quota = self.get('/v2.0/quotas/a-project/details')['quota']
        self.assertEqual(
            {'limit': -1, 'used': 0, 'reserved': 0}, quota['port']
        )

    def test_server_without_a_network_of_its_own(self) -> None:
        """Nova 2.37 asks for the following, in this order."""
        topology = self.get('/v2.0/auto-allocated-topology/a-project')
        chosen = topology['auto_allocated_topology']['id']
        network = self.get(f'/v2.0/networks/{chosen}')['network']
        self.assertEqual(chosen, network['id'])
        self.assertFalse(network['port_security_enabled'])
        status, made = ask(
            'POST',
            '/v2.0/ports',
            {'port': {'device_id': 'a-server', 'network_id': chosen}},
        )
        self.assertEqual(CREATED, status)
        identifier = made['port']['id']
        status, bound = ask(
            'PUT',
            f'/v2.0/ports/{identifier}',
            {'port': {'device_id': 'a-server', 'binding:host_id': 'lab'}},
        )
        self.assertEqual(OK, status)
        self.assertEqual(identifier, bound['port']['id'])
        self.assertEqual('lab', bound['port']['binding:host_id'])
        self.assertIn('mac_address', bound['port'])
        self.assertEqual({'ports': []}, self.get('/v2.0/ports'))

    def test_each_port_is_another(self) -> None:
        request = {'port': {'network_id': neutron.CHOSEN_NETWORK}}
        first, second = (
            ask('POST', '/v2.0/ports', request)[1]['port']['id']
            for _ in range(2)
        )
        self.assertNotEqual(first, second)

    def test_port_on_a_network_that_is_not_there(self) -> None:
        self.assert_refused(
            NOT_FOUND,
            'NetworkNotFound',
            'POST',
            '/v2.0/ports',
            {'port': {'network_id': UNKNOWN}},
        )

    @tables.rows(
        {
            'empty': (b'',),
            'cut off': (b'{',),
            'not text': (b'\xff',),
            'a list': (b'[]',),
            'of nothing': (b'{}',),
            'of a name': (b'{"port": "one"}',),
        }
    )
    def test_body_that_is_no_port(self, body: bytes) -> None:
        for request in (
            ('POST', '/v2.0/ports'),
            ('PUT', f'/v2.0/ports/{UNKNOWN}'),
        ):
            self.assert_refused(
                BAD_REQUEST, 'HTTPBadRequest', *request, body=body
            )

    @tables.rows(
        {
            'network': ('GET', 'networks', 'NetworkNotFound'),
            'port': ('GET', 'ports', 'PortNotFound'),
            'port to delete': ('DELETE', 'ports', 'PortNotFound'),
            'address to give': ('PUT', 'floatingips', 'FloatingIPNotFound'),
        }
    )
    def test_what_is_not_there(
        self, method: str, collection: str, kind: str
    ) -> None:
        self.assert_refused(
            NOT_FOUND, kind, method, f'/v2.0/{collection}/{UNKNOWN}'
        )

    @tables.rows(
        {
            'collection': ('GET', '/v2.0/fwaas'),
            'part of one': ('GET', '/v2.0/ports/one/bindings'),
            'part of a quota': ('GET', '/v2.0/quotas/one/two'),
            'version': ('GET', '/v3/networks'),
            'new network': ('POST', '/v2.0/networks'),
            'change of all': ('PATCH', '/v2.0'),
            'topology to delete': (
                'DELETE',
                '/v2.0/auto-allocated-topology/one',
            ),
        }
    )
    def test_what_it_does_not_know(self, method: str, path: str) -> None:
        self.assert_refused(NOT_FOUND, 'HTTPNotFound', method, path)
