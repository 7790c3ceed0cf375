# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Neutron: a cloud without networks.

Nova 2.37 and later has Neutron choose the network of a server whose request
names none. Nova makes a port there, and looks for the ports of the server
afterwards: no port is on that list here, and the guest gets no interface.
"""

import json
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.util import application_uri

#: Each collection that is empty, and how Neutron's errors call one of it.
COLLECTIONS = {
    'address-groups': 'AddressGroup',
    'address-scopes': 'AddressScope',
    'agents': 'Agent',
    'availability_zones': 'AvailabilityZone',
    'extensions': 'Extension',
    'floatingips': 'FloatingIP',
    'networks': 'Network',
    'ports': 'Port',
    'quotas': 'TenantQuota',
    'rbac-policies': 'RbacPolicy',
    'routers': 'Router',
    'security-group-rules': 'SecurityGroupRule',
    'security-groups': 'SecurityGroup',
    'segments': 'Segment',
    'service-providers': 'ServiceProvider',
    'subnetpools': 'SubnetPool',
    'subnets': 'Subnet',
}

#: The network that Neutron chooses. No list has it.
CHOSEN_NETWORK = '0a5c8d5e-3f0b-4c61-9a0e-7d2b6c1f4e93'

#: The resources that have a quota.
QUOTAS = (
    *('floatingip', 'network', 'port', 'rbac_policy', 'router'),
    *('security_group', 'security_group_rule', 'subnet', 'subnetpool'),
)

#: Neutron's number for a quota without a limit.
UNLIMITED = -1


class NeutronError(Exception):
    """A request that Neutron refuses.

    :param kind: the name of the error, by which clients know it
    """

    def __init__(self, status: HTTPStatus, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        error = {'type': kind, 'message': message, 'detail': ''}
        self.document: dict[str, Any] = {'NeutronError': error}


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Answer a request with a document of Neutron, whatever is asked."""
    method = environ['REQUEST_METHOD']
    length = int(environ.get('CONTENT_LENGTH') or 0)
    try:
        document = answer(
            method,
            environ['PATH_INFO'],
            environ['wsgi.input'].read(length),
            application_uri(environ),
        )
        status = HTTPStatus.CREATED if method == 'POST' else HTTPStatus.OK
    except NeutronError as error:
        status, document = error.status, error.document
    body = json.dumps(document).encode()
    start_response(
        f'{status.value} {status.phrase}',
        [
            ('Content-Type', 'application/json'),
            ('Content-Length', str(len(body))),
        ],
    )
    return [body]


def answer(method: str, path: str, body: bytes, url: str) -> dict[str, Any]:
    """The document for a request.

    :param url: of this service
    :raises NeutronError: there is no such thing, or the request is malformed
    """
    segments = path.removesuffix('.json').split('/')
    match [method, *filter(None, segments)]:
        case ['GET']:
            return _versions(url)
        case ['GET', 'v2.0']:
            return _resources(url)
        case ['GET', 'v2.0', collection] if collection in COLLECTIONS:
            return {_key(collection): []}
        case ['GET', 'v2.0', 'quotas', _, 'details']:
            usage = {'limit': UNLIMITED, 'used': 0, 'reserved': 0}
            return {'quota': dict.fromkeys(QUOTAS, usage)}
        case ['GET', 'v2.0', 'quotas', _, *rest] if rest in ([], ['default']):
            return {'quota': dict.fromkeys(QUOTAS, UNLIMITED)}
        case ['GET', 'v2.0', 'auto-allocated-topology', project]:
            topology = {'id': CHOSEN_NETWORK, 'project_id': project}
            return {'auto_allocated_topology': topology}
        case ['GET', 'v2.0', 'networks', network] if network == CHOSEN_NETWORK:
            return {'network': _network()}
        case ['POST', 'v2.0', 'ports']:
            return {'port': _new_port(_attributes_of_port(body))}
        case ['PUT', 'v2.0', 'ports', port]:
            return {'port': _port(port, _attributes_of_port(body))}
        case [_, 'v2.0', collection, item] if collection in COLLECTIONS:
            raise _not_found(COLLECTIONS[collection], item)
    raise NeutronError(
        HTTPStatus.NOT_FOUND,
        'HTTPNotFound',
        f'The stand-in for Neutron has no {method} {path}.',
    )


def _versions(url: str) -> dict[str, Any]:
    link = {'rel': 'self', 'href': f'{url}v2.0/'}
    return {'versions': [{'id': 'v2.0', 'status': 'CURRENT', 'links': [link]}]}


def _resources(url: str) -> dict[str, Any]:
    return {
        'resources': [
            {
                'collection': _key(collection),
                'links': [{'rel': 'self', 'href': f'{url}v2.0/{collection}'}],
            }
            for collection in COLLECTIONS
        ]
    }


def _key(collection: str) -> str:
    """The name in a document of a collection that has this path."""
    return collection.replace('-', '_')


def _network() -> dict[str, Any]:
    return {
        'id': CHOSEN_NETWORK,
        'name': 'auto_allocated_network',
        'admin_state_up': True,
        # Nova wants subnets of a network with security groups.
        'port_security_enabled': False,
        'router:external': False,
        'shared': False,
        'status': 'ACTIVE',
        'subnets': [],
    }


def _new_port(attributes: dict[str, Any]) -> dict[str, Any]:
    network = attributes.get('network_id')
    if network != CHOSEN_NETWORK:
        raise _not_found('Network', str(network))
    return _port(str(uuid.uuid4()), attributes)


def _port(identifier: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        'network_id': CHOSEN_NETWORK,
        # Nova tells ports apart by their identifiers.
        'mac_address': 'fa:16:3e:00:00:00',
        'fixed_ips': [],
        'status': 'DOWN',
        **attributes,
        'id': identifier,
    }


def _attributes_of_port(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    match document:
        case {'port': dict(attributes)}:
            return attributes
    raise NeutronError(
        HTTPStatus.BAD_REQUEST,
        'HTTPBadRequest',
        'The body of the request is no port in JSON.',
    )


def _not_found(kind: str, item: str) -> NeutronError:
    return NeutronError(
        HTTPStatus.NOT_FOUND,
        f'{kind}NotFound',
        f'{kind} {item} could not be found.',
    )
