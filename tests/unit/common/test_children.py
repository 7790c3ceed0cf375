# SPDX-License-Identifier: Apache-2.0
"""Children, and that no other way to start one is taken."""

from __future__ import annotations

import ast
import logging
import pathlib

import ddt
import fixtures
import testtools

import nova_snapshot_driver
from nova_snapshot_driver.common import children
from tests.unit import tables

PACKAGE = pathlib.Path(nova_snapshot_driver.__file__).parent

#: Functions that start a process, by module, and the name by which each is
#: told of its environment.
STARTS = {
    'subprocess': {
        **dict.fromkeys(('Popen', 'run', 'call'), 'env'),
        **dict.fromkeys(('check_call', 'check_output'), 'env'),
        **dict.fromkeys(('getoutput', 'getstatusoutput'), ''),
    },
    'processutils': {
        **dict.fromkeys(('execute', 'trycmd'), 'env_variables'),
        'ssh_execute': '',
    },
    'os': dict.fromkeys(
        (
            *('system', 'popen', 'fork', 'forkpty'),
            *('posix_spawn', 'posix_spawnp'),
            *('execl', 'execle', 'execlp', 'execlpe'),
            *('execv', 'execve', 'execvp', 'execvpe'),
            *('spawnl', 'spawnle', 'spawnlp', 'spawnlpe'),
            *('spawnv', 'spawnve', 'spawnvp', 'spawnvpe'),
        ),
        '',
    ),
}

#: Modules that become another program, and are children already.
BECOMES_ANOTHER = {'transfer/nbd/activation.py'}


def starts(tree: ast.AST) -> list[ast.Call]:
    """The calls in a module that start a child."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.attr in STARTS.get(node.func.value.id, {})
    ]


def is_told(call: ast.Call) -> bool:
    """Whether a child has the environment that all have."""
    assert isinstance(call.func, ast.Attribute)
    assert isinstance(call.func.value, ast.Name)
    name = STARTS[call.func.value.id][call.func.attr]
    return any(
        keyword.arg == name
        and ast.unparse(keyword.value).startswith('children.environment(')
        for keyword in call.keywords
    )


class StartsTest(testtools.TestCase):
    def test_every_child_has_the_same_environment(self) -> None:
        found, wrong = 0, []
        for path in sorted(PACKAGE.rglob('*.py')):
            name = str(path.relative_to(PACKAGE))
            if name in BECOMES_ANOTHER:
                continue
            for call in starts(ast.parse(path.read_text())):
                found += 1
                if not is_told(call):
                    wrong.append(f'{name}:{call.lineno}')
        self.assertEqual([], wrong)
        self.assertGreater(found, 8)

    def test_nothing_hides_one(self) -> None:
        """No import by another name: the test above would not see it."""
        hidden = [
            f'{path.relative_to(PACKAGE)}:{node.lineno}'
            for path in sorted(PACKAGE.rglob('*.py'))
            for node in ast.walk(ast.parse(path.read_text()))
            if (
                isinstance(node, ast.ImportFrom)
                and node.module in (*STARTS, 'multiprocessing', 'pty')
            )
            or (
                isinstance(node, ast.Import)
                and any(
                    name.name in ('multiprocessing', 'pty')
                    or (name.name in STARTS and name.asname is not None)
                    for name in node.names
                )
            )
        ]
        self.assertEqual([], hidden)


@ddt.ddt
class EnvironmentTest(testtools.TestCase):
    @tables.rows(
        {
            name: (name, value)
            for name, value in {
                'PATH': '/bin',
                'LC_ALL': 'C',
                'PYTHONPATH': '/there',
                'HTTPS_PROXY': 'http://proxy',
                'no_proxy': '*',
                'REQUESTS_CA_BUNDLE': '/ca',
                'CEPH_ARGS': '--id nova',
                'XDG_RUNTIME_DIR': '/run/user/1',
            }.items()
        }
    )
    def test_inherited(self, name: str, value: str) -> None:
        self.useFixture(fixtures.EnvironmentVariable(name, value))
        self.assertEqual(value, children.environment()[name])

    @tables.rows(
        {
            name: (name,)
            for name in (
                *('OS_PASSWORD', 'OS_TOKEN', 'OS_USERNAME', 'OS_AUTH_URL'),
                *('OS_CLIENT_CONFIG_FILE', 'CREDENTIALS_DIRECTORY'),
                *('NOTIFY_SOCKET', 'AWS_SECRET_ACCESS_KEY', 'LISTEN_FDS'),
                *('SSH_AUTH_SOCK', 'LD_PRELOAD', 'anything'),
            )
        }
    )
    def test_not_inherited(self, name: str) -> None:
        self.useFixture(fixtures.EnvironmentVariable(name, 'a secret'))
        self.assertNotIn(name, children.environment())

    def test_more(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable('LC_ALL', 'de_DE'))
        self.assertEqual('C', children.environment(LC_ALL='C')['LC_ALL'])


class LogTest(testtools.TestCase):
    def test_start(self) -> None:
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        children.log_start(['test', '-w', '/a b\nc'])
        self.assertEqual("Running test -w '/a b c'\n", log.output)
