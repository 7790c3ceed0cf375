# SPDX-License-Identifier: Apache-2.0
"""The keys and rights of Ceph's users, which are kept in files."""

import base64
import configparser
import secrets
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from lab.cloud.files import write_private

#: The pools of images, root disks and volumes.
POOLS = ('images', 'vms', 'volumes')

Capabilities = Mapping[str, str]

_DAEMONS: Mapping[str, Capabilities] = {
    'mon.': {'mon': 'allow *'},
    'mgr.x': {'mon': 'allow profile mgr', 'osd': 'allow *'},
    'osd.0': {
        'mon': 'allow profile osd',
        'mgr': 'allow profile osd',
        'osd': 'allow *',
    },
}

# Each service has what it needs for its own pool, and for its way to and from
# an image: Cinder clones one, Nova puts its direct snapshots beside them.
_CLIENTS: Mapping[str, Capabilities] = {
    'client.admin': {'mon': 'allow *', 'mgr': 'allow *', 'osd': 'allow *'},
    'client.glance': {
        'mon': 'profile rbd',
        'mgr': 'profile rbd pool=images',
        'osd': 'profile rbd pool=images',
    },
    'client.cinder': {
        'mon': 'profile rbd',
        'mgr': 'profile rbd pool=volumes',
        'osd': 'profile rbd pool=volumes, profile rbd-read-only pool=images',
    },
    'client.nova': {
        'mon': 'profile rbd',
        'mgr': 'profile rbd pool=vms',
        'osd': 'profile rbd pool=vms, profile rbd pool=images',
    },
}

# The binary header of a key in Ceph: AES, and the time of its creation.
_HEADER = '<HIIH'
_AES = 1
_KEY_SIZE = 16


def write_keyrings(directory: Path) -> None:
    """Choose the keys, and write a file for each user and one for all.

    :param directory: of the files, which are named after the users; that of
        all, with what each of them may do, is ``all.keyring``
    """
    everything = ''
    for user, capabilities in (*_DAEMONS.items(), *_CLIENTS.items()):
        entry = f'[{user}]\n\tkey = {_new_key()}\n'
        write_private(keyring(directory, user), entry)
        everything += entry
        for service, allowed in capabilities.items():
            everything += f'\tcaps {service} = "{allowed}"\n'
    write_private(keyring(directory, 'all'), everything)


def keyring(directory: Path, user: str) -> Path:
    """The file with the key of a user, such as ``client.cinder``."""
    return directory / f'{user}.keyring'


def read_key(path: Path) -> str:
    """The key in the file of a single user."""
    parser = configparser.ConfigParser()
    parser.read_string(path.read_text().replace('\t', ''))
    return parser[parser.sections()[0]]['key']


def _new_key() -> str:
    header = struct.pack(_HEADER, _AES, int(time.time()), 0, _KEY_SIZE)
    return base64.b64encode(header + secrets.token_bytes(_KEY_SIZE)).decode()
