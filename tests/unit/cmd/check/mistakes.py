# SPDX-License-Identifier: Apache-2.0
"""Mistakes that somebody makes with a host that is fine else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import fixtures

from nova_snapshot_driver import exception
from tests.unit.cmd.check.test_check import NovaCase
from tests.unit.cmd.check.test_service_user import CONFIGURED
from tests.unit.fake_glance import Answer
from tests.unit.fake_libvirt import Agent
from tests.unit.hidden import Hidden

#: A misconfiguration, given the case whose host has it.
Mistake = Callable[[NovaCase], object]


def no_qemu_img() -> None:
    raise exception.CommandMissing(command='qemu-img', package='qemu-utils')


def options(text: str) -> Mistake:
    """A nova.conf that has these lines too."""
    return lambda case: case.configure(f'{case.OURS}{CONFIGURED}{text}')


def driver(value: str) -> Mistake:
    return lambda case: case.configure(
        f'compute_driver = {value}\n{CONFIGURED}'
    )


def service_user(text: str) -> Mistake:
    return lambda case: case.configure(f'{case.OURS}{text}')


def roles(*names: str) -> Mistake:
    return lambda case: setattr(case.keystone, 'roles', [*names])


def api_paste(text: str) -> Mistake:
    return lambda case: case.command.config.with_name(
        'api-paste.ini'
    ).write_text(text)


def installed(**arguments: object) -> Mistake:
    """The driver is installed in this way (``NovaPrefix.add_driver``)."""
    return lambda case: case.prefix.add_driver(**arguments)  # type: ignore[arg-type]


def glance_answers(status: int) -> Mistake:
    answer = Answer(status, {'error': {'message': 'Not for you'}})
    return lambda case: setattr(
        case.host.glance,
        'troubles',
        dict.fromkeys(range(1, 99), lambda: answer),
    )


def cinder_answers(status: int, body: object = None) -> Mistake:
    return lambda case: case.cinder.troubles.update(
        # keystoneauth asks again with a new token.
        dict.fromkeys(('limits_1', 'limits_2'), lambda: (status, body))
    )


def several(*mistakes: Mistake) -> Mistake:
    def make(case: NovaCase) -> None:
        for mistake in mistakes:
            mistake(case)

    return make


def with_option(text: str) -> Mistake:
    """A nova.conf that has these lines too, with ``{root}`` in them."""
    return lambda case: options(text.format(root=case.host.root))(case)


def uninstalled(name: str) -> Mistake:
    """A directory of nova-compute's packages is gone."""
    return lambda case: shutil.rmtree(case.prefix.site / name)


def mode(name: str, bits: int) -> Mistake:
    """A directory of the host has a mode."""

    def make(case: NovaCase) -> None:
        directory = case.host.root / name
        directory.mkdir(exist_ok=True)
        directory.chmod(bits)

    return make


def qemu_is_somebody_else(case: NovaCase) -> None:
    case.host.connection.qemu_label = f'+{os.geteuid() + 1}:+4242'


def agent_hangs(case: NovaCase) -> None:
    case.host.machine.agent = Agent.HANGS


def another_user_checks(case: NovaCase) -> None:
    """Somebody checks who is neither root nor the user of nova-compute."""
    (case.host.root / 'nova').mkdir()
    replaced('os.geteuid', lambda: 4242)(case)


def hidden(name: str) -> Mistake:
    """Nobody may look into a directory of the host."""
    return lambda case: case.useFixture(Hidden(case.host.root / name))


def replaced(target: str, value: object) -> Mistake:
    return lambda case: case.useFixture(fixtures.MockPatch(target, value))
