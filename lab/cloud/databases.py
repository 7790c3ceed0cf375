# SPDX-License-Identifier: Apache-2.0
"""The databases: SQLite, made once and copied for every new cloud."""

import shutil
from pathlib import Path

from lab.bounded import run

_SYNC_TIMEOUT = 300

# Placeholders of Nova, for the parts of [database] connection and of
# transport_url: the mappings fit wherever the copies are.
_CELL0 = '{scheme}:////{path}_cell0?{query}'
_CELL1 = '{scheme}:////{path}?{query}'
_CELL1_TRANSPORT = '{scheme}://{username}:{password}@{hostname}:{port}/'

# nova-manage refuses a mapping that does not result in a URL.
_NOVA = """\
[DEFAULT]
concurrency_backend = threading
transport_url = rabbit://nova:nova@localhost:5672/
"""

# Cinder copies the quotas into the database, which has the last word.
_CINDER = """\
[DEFAULT]
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
quota_groups = -1
"""


def connection(directory: Path, name: str) -> str:
    """The URL of a database for the services, who share it."""
    return f'{_url(directory, name)}&plugin=immediate'


def make_databases(programs: Path, directory: Path) -> None:
    """Make the databases, with their schemas and the two cells of Nova.

    :param programs: the directory of the services' programs
    :raises LabError: a migration failed
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()

    def sync(name: str, *arguments: str) -> None:
        run([programs / name, *arguments], timeout=_SYNC_TIMEOUT)

    keystone = _configuration(directory, 'keystone', database='keystone')
    sync('keystone-manage', '--config-file', keystone, 'db_sync')

    glance = _configuration(directory, 'glance', database='glance')
    sync('glance-manage', '--config-file', glance, 'db_sync')

    placement = _configuration(
        directory, 'placement', placement_database='placement'
    )
    sync('placement-manage', '--config-file', placement, 'db', 'sync')

    nova = _configuration(
        directory, 'nova', api_database='nova_api', database='nova'
    )
    with open(nova, 'a') as file:
        file.write(_NOVA)
    for arguments in (
        ['api_db', 'sync'],
        ['cell_v2', 'map_cell0', '--database_connection', _CELL0],
        [
            *('cell_v2', 'create_cell', '--name', 'cell1'),
            *('--database_connection', _CELL1),
            *('--transport-url', _CELL1_TRANSPORT),
        ],
        ['db', 'sync'],
    ):
        sync('nova-manage', '--config-file', nova, *arguments)


def make_cinder_database(programs: Path, directory: Path) -> None:
    """Create the database of Cinder, which not every cloud has.

    :param programs: the directory of its programs
    :raises LabError: the migration failed
    """
    cinder = _configuration(directory, 'cinder', database='cinder')
    with open(cinder, 'a') as file:
        file.write(_CINDER)
    run(
        [programs / 'cinder-manage', '--config-file', cinder, 'db', 'sync'],
        timeout=_SYNC_TIMEOUT,
    )


def copy_databases(templates: Path, directory: Path) -> None:
    """Copy the databases that are not there yet."""
    directory.mkdir(parents=True, exist_ok=True)
    for template in templates.glob('*.sqlite*'):
        if not (directory / template.name).exists():
            shutil.copy(template, directory)


def _configuration(directory: Path, service: str, **databases: str) -> str:
    """Write the databases of a service by their sections; return the file."""
    path = directory / f'{service}.conf'
    path.write_text(
        ''.join(
            f'[{section}]\nconnection = {_url(directory, name)}\n'
            for section, name in databases.items()
        )
    )
    return str(path)


def _url(directory: Path, name: str) -> str:
    return f'sqlite:///{directory}/{name}.sqlite?timeout=60'
