# SPDX-License-Identifier: Apache-2.0
"""The cloud on the command line."""

import argparse
from collections.abc import Callable
from collections.abc import Iterable

from lab.cloud.cloud import Cloud
from lab.cloud.install import NOVA
from lab.cloud.install import CloudInstall
from lab.cloud.options import DRIVER_API
from lab.cloud.options import STOCK_API
from lab.cloud.options import STOCK_DRIVER
from lab.cloud.options import CloudOptions
from lab.cloud.options import Concurrency
from lab.cloud.options import Storage
from lab.errors import LabError

#: The commands for a snapshot, and for a server made of it.
COMMANDS = (
    'openstack server create --image witness --flavor tiny --nic none '
    '--wait one',
    'openstack console log show one',
    'openstack server image create --name snapshot --wait one',
    'openstack server create --image snapshot --flavor tiny --nic none '
    '--wait two',
)

#: The commands for a server that boots from a volume, and has another one.
VOLUME_COMMANDS = (
    'openstack server create --image witness-raw --flavor tiny --nic none '
    '--boot-from-volume 1 --wait three',
    'openstack server image create --name volumes --wait three',
    'openstack image show volumes',
    'openstack volume snapshot list',
    'openstack server create --image volumes --flavor tiny --nic none '
    '--wait four',
)

_USAGE = """\
The cloud is up. To use it as an ordinary user:

  . {directory}/openrc-demo
{commands}
{volumes}
openrc-other is another project, openrc-admin the administrator. Or:
export OS_CLIENT_CONFIG_FILE={directory}/clouds.yaml OS_CLOUD=demo

  nova-compute  {driver}, {concurrency}
  nova-api      {app_factory}
  environment   {environment}
  configuration {configuration}
  logs          {logs}
  client        {client}
  stop it       make cloud-down
"""

_VOLUMES = """
A volume-backed server, all of whose volumes are snapshotted in Cinder{by}:

{commands}
"""


def add_cloud(
    nouns: 'argparse._SubParsersAction[argparse.ArgumentParser]',
    add_verb: Callable[..., argparse.ArgumentParser],
) -> None:
    """Add the noun ``cloud`` to the command line of the lab.

    :param add_verb: adds a verb with its action and its help
    """
    cloud = nouns.add_parser('cloud', help='a whole OpenStack; needs root')
    verbs = cloud.add_subparsers(required=True, metavar='VERB')
    install = add_verb(verbs, 'install', _install, 'install it')
    up = add_verb(
        verbs, 'up', _up, 'start it, or restart what the options affect'
    )
    for command in (install, up):
        command.add_argument(
            '--nova',
            default=NOVA,
            metavar='VERSION',
            help='of Nova (default: %(default)s)',
        )
        command.add_argument(
            '--storage',
            type=Storage,
            choices=list(Storage),
            default=CloudOptions.storage,
            help='ceph: volumes too, in a Ceph and a Cinder '
            '(default: %(default)s)',
        )
    up.add_argument(
        '--driver',
        default=CloudOptions.driver,
        help="nova-compute's compute_driver (default: %(default)s); with "
        f'{STOCK_DRIVER} Nova has an environment without this driver, to '
        'deploy it in',
    )
    up.add_argument(
        '--concurrency',
        type=Concurrency,
        choices=list(Concurrency),
        default=CloudOptions.concurrency,
        help='what nova-compute runs on (default: %(default)s)',
    )
    up.add_argument(
        '--token-lifetime',
        type=int,
        default=CloudOptions.token_lifetime,
        metavar='SECONDS',
        help="of Keystone's tokens (default: %(default)s)",
    )
    up.add_argument(
        '--images-type',
        default=CloudOptions.images_type,
        metavar='TYPE',
        help="nova-compute's images_type, of root disks; rbd needs ceph "
        '(default: %(default)s)',
    )
    up.add_argument(
        '--stock-api',
        action='store_const',
        const=STOCK_API,
        default=CloudOptions.app_factory,
        dest='app_factory',
        help="leave nova-api's api-paste.ini as Nova has it: nova-api then "
        'snapshots volume-backed servers itself',
    )
    up.add_argument(
        '--fresh', action='store_true', help='remove what was in it before'
    )
    add_verb(verbs, 'down', _down, 'stop it; what is stored in it stays')
    add_verb(verbs, 'discard', _discard, 'stop it and remove all of it')
    add_verb(verbs, 'status', _status, 'say what runs')
    restart = add_verb(
        verbs,
        'restart',
        _restart,
        'restart a service; "up" does it where the checkout has changed',
    )
    restart.add_argument('service', help='such as nova-compute')


def _install(arguments: argparse.Namespace) -> bool:
    install = CloudInstall.ensure(
        arguments.nova, cinder=arguments.storage is Storage.CEPH
    )
    print(install.directory)
    return True


def _up(arguments: argparse.Namespace) -> bool:
    is_stock = arguments.driver == STOCK_DRIVER
    options = CloudOptions(
        arguments.driver,
        arguments.concurrency,
        arguments.token_lifetime,
        arguments.nova,
        arguments.storage,
        arguments.images_type,
        STOCK_API if is_stock else arguments.app_factory,
        stock=is_stock,
    )
    if not CloudInstall.find(options.nova).complete:
        print('cloud: install it, which takes some minutes', flush=True)
    cloud = Cloud()
    if arguments.fresh:
        cloud.discard()
    cloud.ensure(options)
    print(usage(cloud, options), end='')
    return True


def usage(cloud: Cloud, options: CloudOptions) -> str:
    """The hints for a person who has started a cloud."""
    volumes = ''
    if options.has_ceph:
        is_ours = options.app_factory == DRIVER_API
        volumes = _VOLUMES.format(
            by=' by their host' if is_ours else ', by nova-api itself',
            commands=_indented(VOLUME_COMMANDS),
        )
    return _USAGE.format(
        app_factory=options.app_factory,
        client=cloud.install.programs / 'openstack',
        commands=_indented(COMMANDS),
        concurrency=options.concurrency,
        configuration=cloud.directory / 'etc/nova',
        directory=cloud.directory,
        driver=options.driver,
        environment=cloud.install.directory,
        logs=cloud.log_directory,
        volumes=volumes,
    )


def _indented(commands: Iterable[str]) -> str:
    return '\n'.join(f'  {command}' for command in commands)


def _down(arguments: argparse.Namespace) -> bool:
    Cloud().stop()
    return True


def _discard(arguments: argparse.Namespace) -> bool:
    Cloud().discard()
    return True


def _status(arguments: argparse.Namespace) -> bool:
    cloud = Cloud()
    for name, running in cloud.status.items():
        print(f'{name:18}{"runs" if running else "does not run"}')
    if not cloud.running:
        print('the cloud does not run completely: make cloud')
    return cloud.running


def _restart(arguments: argparse.Namespace) -> bool:
    services = Cloud().services
    if arguments.service not in services:
        raise LabError(f'the services are {", ".join(services)}')
    services[arguments.service].restart()
    return True
