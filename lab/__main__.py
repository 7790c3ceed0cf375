# SPDX-License-Identifier: Apache-2.0
"""Start and stop the parts of the lab: ``python -m lab --help``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lab.apart import apart
from lab.cloud.cloud import Cloud
from lab.cloud.command import add_cloud
from lab.directory import VARIABLE
from lab.directory import lab_directory
from lab.directory import remove_short_cut
from lab.errors import LabError
from lab.glance import Glance
from lab.glance_install import GlanceInstall
from lab.guest import WitnessGuest
from lab.hypervisor import Hypervisor
from lab.options import GuestOptions
from lab.options import Shape
from lab.witness import WitnessImage

_TICK_TIMEOUT = 10.0


def main() -> int:
    arguments = _parser().parse_args()
    action: Callable[[argparse.Namespace], bool] = arguments.action
    try:
        return 0 if action(arguments) else 1
    except LabError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m lab',
        description='The exit status of "status" is 1 if it does not run.',
        epilog=f'Everything is under ${VARIABLE}, by default .lab.',
    )
    nouns = parser.add_subparsers(required=True, metavar='NOUN')

    guest = nouns.add_parser(
        'guest', help='a guest that notices every stall and every lost write'
    )
    verbs = guest.add_subparsers(required=True, metavar='VERB')
    _add_verb(verbs, 'build', _build_image, 'build its image')
    for verb, action, text in (
        ('start', _start_guest, 'boot it, from a new disk'),
        ('stop', _stop_guest, 'stop it, remove its disk'),
        ('status', _show_guest, 'say whether it writes'),
    ):
        command = _add_verb(verbs, verb, action, text)
        command.add_argument('--name', default=GuestOptions.name)
        command.add_argument(
            '--shape',
            type=Shape,
            choices=list(Shape),
            default=GuestOptions.shape,
            help='of its disk (default: %(default)s)',
        )

    glance = nouns.add_parser('glance', help='a Glance without Keystone')
    verbs = glance.add_subparsers(required=True, metavar='VERB')
    _add_verb(verbs, 'install', _install_glance, 'install it')
    _add_verb(verbs, 'start', _start_glance, 'start it')
    _add_verb(verbs, 'stop', _stop_glance, 'stop it; its images stay')
    _add_verb(verbs, 'status', _show_glance, 'say whether it runs')

    add_cloud(nouns, _add_verb)

    _add_verb(nouns, 'down', _stop_all, 'stop everything')
    return parser


def _add_verb(
    verbs: 'argparse._SubParsersAction[argparse.ArgumentParser]',
    name: str,
    action: Callable[[argparse.Namespace], bool],
    text: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text)
    verb.set_defaults(action=action)
    return verb


def _build_image(arguments: argparse.Namespace) -> bool:
    print(WitnessImage.build().directory)
    return True


def _start_guest(arguments: argparse.Namespace) -> bool:
    guest = _guest(arguments)
    if not guest.running:
        guest.boot()
    return _report(guest)


def _stop_guest(arguments: argparse.Namespace) -> bool:
    _guest(arguments).discard()
    return True


def _show_guest(arguments: argparse.Namespace) -> bool:
    return _report(_guest(arguments))


def _report(guest: WitnessGuest) -> bool:
    if not guest.running:
        print(f'{guest.name} does not run')
        return False
    with guest.ticks as ticks:
        ticks.wait(1, _TICK_TIMEOUT)
        print(
            f'{guest.name} runs, has synced record {ticks.last}\n'
            f'hypervisor {guest.hypervisor.uri}\n'
            f'disk {guest.disk.path}'
        )
    return True


def _guest(arguments: argparse.Namespace) -> WitnessGuest:
    return WitnessGuest(
        Hypervisor(lab_directory() / 'hypervisor'),
        GuestOptions(arguments.name, arguments.shape),
    )


def _install_glance(arguments: argparse.Namespace) -> bool:
    print(GlanceInstall.ensure().directory)
    return True


def _start_glance(arguments: argparse.Namespace) -> bool:
    glance = _glance()
    if not glance.running:
        glance.start()
    return _show_glance(arguments)


def _stop_glance(arguments: argparse.Namespace) -> bool:
    _glance().stop()
    return True


def _show_glance(arguments: argparse.Namespace) -> bool:
    glance = _glance()
    if not glance.running:
        print('Glance does not run')
        return False
    print(f'Glance runs at {glance.url}')
    return True


def _glance() -> Glance:
    return Glance(lab_directory() / 'glance')


def _stop_all(arguments: argparse.Namespace) -> bool:
    stopped = True
    try:
        Cloud().stop()
    except LabError as error:
        print(f'error: {error}', file=sys.stderr)
        stopped = False
    for lock in _find('glance.lock'):
        Glance(lock.parent).stop()
    for lock in _find('run/qemu/driver.pid'):
        try:
            # A process can open one root directory only.
            apart(Hypervisor(lock.parents[2]).clear)
        except LabError as error:
            print(f'error: {error}', file=sys.stderr)
            stopped = False
    remove_short_cut()
    return stopped


def _find(file: str) -> list[Path]:
    """The files of this name in the lab's directories, three levels deep."""
    lab = lab_directory()
    return [
        path
        for level in ('*', '*/*', '*/*/*')
        for path in lab.glob(f'{level}/{file}')
    ]


if __name__ == '__main__':
    sys.exit(main())
