# SPDX-License-Identifier: Apache-2.0
"""The cloud on the command line."""

import argparse
from collections.abc import Callable

from tests.lab.cloud.cloud import Cloud
from tests.lab.cloud.install import NOVA
from tests.lab.cloud.install import CloudInstall
from tests.lab.cloud.options import CloudOptions
from tests.lab.cloud.options import Concurrency
from tests.lab.cloud.options import Storage

_USAGE = """\
The cloud is up. To be an ordinary user in it:

  . {directory}/openrc-demo
  openstack server create --image witness --flavor tiny --nic none --wait one
  openstack console log show one
  openstack server image create --name snapshot --wait one
  openstack server create --image snapshot --flavor tiny --nic none --wait two

openrc-other is another project, openrc-admin the administrator. Or:
export OS_CLIENT_CONFIG_FILE={directory}/clouds.yaml OS_CLOUD=demo

  nova-compute  {driver}, {concurrency}
  logs          {logs}
  client        {client}
  stop it       make cloud-down
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
        verbs, 'up', _up, 'start it, or restart what other options concern'
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
        help="nova-compute's compute_driver (default: %(default)s)",
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
        '--app-factory',
        default=CloudOptions.app_factory,
        help="nova-api's paste.app_factory (default: %(default)s)",
    )
    up.add_argument(
        '--fresh', action='store_true', help='remove what was in it before'
    )
    add_verb(verbs, 'down', _down, 'stop it; what is stored in it stays')
    add_verb(verbs, 'discard', _discard, 'stop it and remove all of it')
    add_verb(verbs, 'status', _status, 'say what runs')
    add_verb(
        verbs,
        'restart-compute',
        _restart_compute,
        'restart nova-compute; "up" does it where the checkout has changed',
    )


def _install(arguments: argparse.Namespace) -> bool:
    install = CloudInstall.ensure(
        arguments.nova, cinder=arguments.storage is Storage.CEPH
    )
    print(install.directory)
    return True


def _up(arguments: argparse.Namespace) -> bool:
    options = CloudOptions(
        arguments.driver,
        arguments.concurrency,
        arguments.token_lifetime,
        arguments.nova,
        arguments.storage,
        arguments.images_type,
        arguments.app_factory,
    )
    if not CloudInstall.find(options.nova).complete:
        print('cloud: install it, which takes some minutes', flush=True)
    cloud = Cloud()
    if arguments.fresh:
        cloud.discard()
    cloud.ensure(options)
    print(
        _USAGE.format(
            client=cloud.install.programs / 'openstack',
            concurrency=options.concurrency,
            directory=cloud.directory,
            driver=options.driver,
            logs=cloud.log_directory,
        ),
        end='',
    )
    return True


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
        print('the cloud does not run, or not all of it: make cloud')
    return cloud.running


def _restart_compute(arguments: argparse.Namespace) -> bool:
    Cloud().compute.restart()
    return True
