# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import logging
import os
import pathlib
import re
import signal
import threading

import ddt
import fixtures
import testtools

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd import main
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.transfer.formats.encoding import Encoding
from tests.unit import documents
from tests.unit import tables
from tests.unit.cmd.command import CommandLine
from tests.unit.cmd.command import Result

PATIENCE = 30
PAGE = pathlib.Path(__file__).parents[3] / 'doc/source/cli/nova-snapshot.rst'


@ddt.ddt
class ArgumentsTest(testtools.TestCase):
    @tables.rows(
        {
            'none': (),
            'unknown_command': ('destroy',),
            'no_domain': ('create',),
            'unknown_option': ('create', 'web-1', '--fast'),
            'bad_choice': ('create', 'web-1', '--method', 'sideways'),
            'bad_number': ('create', 'web-1', '--deadline', 'soon'),
            'nothing_to_cancel': ('cancel',),
        }
    )
    def test_wrong(self, *arguments: str) -> None:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            raised = self.assertRaises(SystemExit, main.main, arguments)
        self.assertEqual(2, raised.code)
        self.assertIn('usage: nova-snapshot', errors.getvalue())

    @tables.rows(
        {
            'root': ('--help',),
            'create': ('create', '--help'),
            'check': ('check', '--help'),
            'status': ('status', '--help'),
            'cancel': ('cancel', '--help'),
            'recover': ('recover', '--help'),
        }
    )
    def test_help(self, *arguments: str) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            raised = self.assertRaises(SystemExit, main.main, arguments)
        self.assertEqual(0, raised.code)
        self.assertIn('usage: nova-snapshot', output.getvalue())

    def test_options_of_create_are_in_groups(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.assertRaises(SystemExit, main.main, ['create', '--help'])
        _, what, how, limits, connection, _ = re.split(
            r'\n\n(?:what|how|limits|connection|configuration):\n',
            output.getvalue(),
        )
        for group, options in (
            (what, ('DOMAIN', '--name', '--output')),
            (how, ('--method', '--quiesce', '--pause')),
            (limits, ('--deadline', '--bandwidth')),
            (connection, ('--connect', '--os-cloud', '--glance-url')),
        ):
            for option in options:
                self.assertIn(f'\n  {option} ', f'\n{group}')
        self.assertNotIn('--path', output.getvalue())

    def test_statuses_are_told(self) -> None:
        help_of_all = main.parser().format_help()
        for status, meaning in main.EXIT_STATUSES.items():
            self.assertRegex(help_of_all, rf'\n  {status} +{meaning}\n')

    def test_page_has_the_same_statuses(self) -> None:
        section = PAGE.read_text().split('\nExit status\n')[1]
        told = re.findall(r'^   \* - (\d+)$', section, re.MULTILINE)
        self.assertEqual([str(status) for status in main.EXIT_STATUSES], told)

    def test_version(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            raised = self.assertRaises(SystemExit, main.main, ['--version'])
        self.assertEqual(0, raised.code)
        self.assertRegex(output.getvalue(), r'^\d+\.\d+\.\d+')


class MainCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.command = self.useFixture(CommandLine())
        self.host = self.command.host
        self.image = str(self.host.root / 'web-1.qcow2')

    def create(self, *arguments: str) -> Result:
        return self.command.run(
            'create', documents.NAME, '--output', self.image, *arguments
        )


class StatusTest(MainCase):
    def test_success(self) -> None:
        Journal(self.command.host.directories.state)
        self.assertEqual(0, self.create().status)

    def test_failure(self) -> None:
        result = self.command.run('create', 'web-9', '--output', self.image)
        self.assertEqual(1, result.status)
        self.assertEqual('', result.output)
        self.assertIn('There is no domain web-9', result.errors)

    def test_failure_as_json(self) -> None:
        result = self.command.run(
            *('create', 'web-9', '--output', self.image, '--format', 'json')
        )
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('domain-not-found', error['code'])
        self.assertEqual({'domain': 'web-9'}, error['fields'])
        self.assertIn('web-9', error['message'])

    def test_failure_that_nobody_has_foreseen(self) -> None:
        def fail() -> None:
            raise OSError(5, 'Input/output error')

        self.host.data_plane.at_extract = fail
        result = self.create('--format', 'json')
        self.assertEqual(1, result.status)
        self.assertIn('Input/output error', result.json['error']['message'])

    def test_fault_of_the_program(self) -> None:
        def fail() -> None:
            raise KeyError('what\nis <b>this</b>') from ValueError('a cause')

        self.host.data_plane.at_extract = fail
        result = self.create('--format', 'json')
        self.assertEqual(1, result.status)
        error = result.json['error']
        self.assertEqual('unexpected-error', error['code'])
        self.assertIn('KeyError', error['message'])
        self.assertIn('a cause', error['message'])
        self.assertIn('report', error['message'])
        self.assertEqual(2, len(result.errors.splitlines()), result.errors)
        result = self.create()
        self.assertEqual(1, result.status)
        self.assertNotIn('Traceback', result.errors)

    def test_wrong_configuration(self) -> None:
        self.command.config.write_text('this is no configuration\n')
        result = self.create('--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('configuration-invalid', result.json['error']['code'])

    def test_missing_configuration(self) -> None:
        self.command.config.unlink()
        result = self.create('--format', 'json')
        self.assertEqual('configuration-invalid', result.json['error']['code'])

    def test_value_that_is_not_valid(self) -> None:
        self.command.config.write_text('[snapshot]\nqemu_timeout = soon\n')
        result = self.create('--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('configuration-invalid', result.json['error']['code'])

    def test_no_libvirt(self) -> None:
        self.command.no_libvirt = True
        result = self.create('--connect', 'qemu:///nowhere')
        self.assertEqual(1, result.status)
        self.assertIn('qemu:///nowhere', result.errors)


class SignalTest(MainCase):
    """Ctrl-C and SIGTERM end the command in order."""

    def interrupt(self, number: signal.Signals) -> None:
        before = self.host.before()
        # A shell starts what runs in the background with SIGINT ignored, and
        # the command keeps to that.
        self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(number, signal.SIG_DFL)
        handler = signal.getsignal(number)

        def kill() -> None:
            os.kill(os.getpid(), number)
            assert self.host.data_plane.cancellation is not None
            self.host.data_plane.cancellation.sleep(PATIENCE)

        self.host.data_plane.at_extract = kill
        result = self.create('--format', 'json')
        self.assertEqual(130, result.status)
        self.assertEqual('cancelled', result.json['error']['code'])
        self.assertIn(number.name, result.errors)
        self.assertEqual([], self.host.differences(before))
        self.assertIs(handler, signal.getsignal(number))

    def test_sigterm(self) -> None:
        self.interrupt(signal.SIGTERM)

    def test_sigint(self) -> None:
        self.interrupt(signal.SIGINT)

    def test_signal_that_is_ignored_stays_so(self) -> None:
        """As by nohup, or in the background of a script."""
        numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            handler = signal.signal(number, signal.SIG_IGN)
            self.addCleanup(signal.signal, number, handler)

        def send() -> None:
            for number in numbers:
                os.kill(os.getpid(), number)

        self.host.data_plane.at_extract = send
        self.assertEqual(0, self.create().status)
        self.assertIs(signal.SIG_IGN, signal.getsignal(signal.SIGHUP))

    def test_handler_interrupts_no_step(self) -> None:
        """The handler runs in the main thread, and the command in another."""
        threads = []
        self.host.data_plane.at_extract = lambda: threads.append(
            threading.current_thread()
        )
        self.create()
        self.assertNotIn(threading.main_thread(), threads)
        self.assertEqual(1, len(threads))


class OptionsTest(MainCase):
    def test_connect(self) -> None:
        self.create('--connect', 'qemu:///session')
        self.command.config.write_text(
            '[libvirt]\nconnection_uri = qemu+tcp://host/system\n'
        )
        os.unlink(self.image)
        self.create()
        self.assertEqual(
            ['qemu:///session', 'qemu+tcp://host/system'], self.command.uris
        )

    def test_arguments_go_before_the_file(self) -> None:
        self.command.config.write_text(
            '[snapshot]\npath = mirror\nquiesce = require\n'
            '[libvirt]\nsnapshot_image_format = vmdk\n'
        )
        result = self.create(
            *('--method', 'cold', '--quiesce', 'never'),
            *('--image-format', 'qcow2', '--compress', '--format', 'json'),
        )
        self.assertEqual('cold', result.json['method'])
        self.assertEqual('not wanted', result.json['quiesced_reason'])
        self.assertEqual('qcow2', result.json['disk_format'])
        self.assertEqual(
            Encoding('qcow2', 'zstd', 1), self.host.data_plane.encoding
        )

    def test_former_name(self) -> None:
        result = self.create('--path', 'cold', '--format', 'json')
        self.assertEqual('cold', result.json['method'])
        self.assertEqual(
            'nova-snapshot create: warning: --path is deprecated, use '
            '--method\n',
            result.errors,
        )

    def test_present_name_is_not_warned_of(self) -> None:
        self.assertEqual('', self.create('--method', 'cold').errors)

    def test_argument_that_is_out_of_range(self) -> None:
        result = self.create('--deadline', '-1', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual('configuration-invalid', result.json['error']['code'])

    def test_bandwidth(self) -> None:
        arguments = main.parser().parse_args(
            ['create', documents.NAME, '--bandwidth', '50']
        )
        self.assertIn(
            ('snapshot', 'bandwidth', 50), arguments.overrides(arguments)
        )

    def test_file_holds_where_there_is_no_argument(self) -> None:
        self.command.config.write_text(
            '[snapshot]\npath = cold\n[libvirt]\nsnapshot_compression = true\n'
        )
        result = self.create('--format', 'json')
        self.assertEqual('cold', result.json['method'])
        self.assertEqual(
            Encoding('qcow2', 'zstd', 1), self.host.data_plane.encoding
        )


class LogTest(MainCase):
    def test_verbose(self) -> None:
        # A handler of somebody else keeps the command from adding its own.
        root = logging.getLogger()
        self.useFixture(fixtures.MockPatchObject(root, 'handlers', []))
        level = root.level
        self.addCleanup(root.setLevel, level)
        result = self.create('--verbose')
        self.assertIn('INFO Snapshot of domain', result.errors)

    def test_quiet(self) -> None:
        root = logging.getLogger()
        self.useFixture(fixtures.MockPatchObject(root, 'handlers', []))
        level = root.level
        self.addCleanup(root.setLevel, level)
        self.assertEqual('', self.create().errors)


class ConfigurationTest(MainCase):
    """A failure says which configuration it had."""

    def test_failure(self) -> None:
        result = self.command.run('cancel', 'web-9', '--format', 'json')
        self.assertEqual(1, result.status)
        self.assertEqual({'error'}, result.json.keys())
        self.assertEqual(
            f'Configuration: {self.command.config}',
            result.errors.splitlines()[-1],
        )

    def test_no_file(self) -> None:
        self.useFixture(
            fixtures.MockPatchObject(conf, 'sources', lambda _: [])
        )
        result = self.command.run('cancel', 'web-9')
        self.assertIn('Configuration: no file, only defaults', result.errors)

    def test_success(self) -> None:
        Journal(self.command.host.directories.state)
        self.assertNotIn('Configuration', self.command.run('status').errors)

    def test_verbose(self) -> None:
        root = logging.getLogger()
        self.useFixture(fixtures.MockPatchObject(root, 'handlers', []))
        self.addCleanup(root.setLevel, root.level)
        result = self.command.run('status', '--verbose')
        self.assertIn(
            f'INFO Configuration: {self.command.config}\n', result.errors
        )


class ErrorTest(testtools.TestCase):
    def test_every_error_can_be_printed(self) -> None:
        """Markup in a message is text."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            output.print_error(
                exception.SnapshotError(reason='[bold]x[/] [libvirt] y'),
                'table',
            )
        self.assertIn('[bold]x[/] [libvirt] y', errors.getvalue())
