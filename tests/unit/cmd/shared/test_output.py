# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import io
import json
import re

import fixtures
import testtools

from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.common.progress import IN_BYTES
from nova_snapshot_driver.common.progress import silent

#: The escapes with which a terminal is told colours.
ANSI = re.compile(r'\x1b\[[0-9;]*m')


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class PrintTest(testtools.TestCase):
    def printed(self, print_it: object, *arguments: object) -> str:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            print_it(*arguments)  # type: ignore[operator]
        return stream.getvalue()

    def test_json(self) -> None:
        printed = self.printed(output.print_json, {'a': [1, None]})
        self.assertEqual({'a': [1, None]}, json.loads(printed))

    def test_record(self) -> None:
        printed = self.printed(
            output.print_record, {'Path': 'mirror ([snapshot] method)'}
        )
        # Brackets are no markup.
        self.assertIn('mirror ([snapshot] method)', printed)

    def test_table(self) -> None:
        printed = self.printed(
            output.print_table, ('Domain', 'Left'), [('[web]', '12 s')]
        )
        for text in ('Domain', 'Left', '[web]', '12 s'):
            self.assertIn(text, printed)

    def test_json_in_one_line(self) -> None:
        printed = self.printed(output.print_json, {'a': [1, 2]}, True)
        self.assertEqual('{"a": [1, 2]}\n', printed)

    def test_screen_of_a_terminal(self) -> None:
        terminal = Terminal()
        with contextlib.redirect_stdout(terminal):
            output.begin_screen()
        self.assertRegex(terminal.getvalue(), r'^\x1b\[H\x1b\[2J\d{4}-')

    def test_verdicts(self) -> None:
        """Each is one line for grep, however long."""
        rows = [
            ('libvirt', 'SUCCESS', '9.0.0'),
            ('Glance', 'FAILURE', '[/] away' + ' far' * 99),
        ]
        self.assertEqual(
            'SUCCESS  libvirt: 9.0.0\n'
            f'FAILURE  Glance: [/] away{" far" * 99}\n'
            'Not ready\n',
            self.printed(output.print_verdicts, rows, 'Not ready'),
        )

    def test_verdicts_on_a_terminal(self) -> None:
        self.useFixture(fixtures.EnvironmentVariable('COLUMNS', '80'))
        self.useFixture(fixtures.EnvironmentVariable('NO_COLOR', '1'))
        terminal = Terminal()
        with contextlib.redirect_stdout(terminal):
            output.print_verdicts(
                [('Glance', 'FAILURE', 'far ' * 99)], 'Not ready'
            )
        lines = terminal.getvalue().splitlines()
        self.assertEqual('Not ready', lines[-1])
        self.assertGreater(len(lines), 1)
        for line in lines:
            self.assertLessEqual(len(ANSI.sub('', line)), 80)


class ProgressTest(testtools.TestCase):
    def test_nobody_looks(self) -> None:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            output.progress_bars() as progress,
        ):
            self.assertIs(silent, progress)

    def test_terminal(self) -> None:
        terminal = Terminal()
        with (
            contextlib.redirect_stderr(terminal),
            output.progress_bars() as progress,
        ):
            progress('copy', 1, 2)
            progress('copy', 2, 2)
            progress('upload', 1, 4)
        shown = terminal.getvalue()
        for step in ('copy', 'upload'):
            self.assertIn(output.STEPS[step], shown)
        self.assertNotIn(output.STEPS['extract'], shown)
        self.assertIn('25%', shown)

    def shown(self, *progress: tuple[str, int, int]) -> str:
        terminal = Terminal()
        with (
            contextlib.redirect_stderr(terminal),
            output.progress_bars() as bars,
        ):
            for step, done, total in progress:
                bars(step, done, total)
        return terminal.getvalue()

    def test_bytes(self) -> None:
        mib = 1 << 20
        shown = self.shown(('stream', mib, 4 * mib), ('stream', mib, 4 * mib))
        self.assertIn('1/4 MiB', shown)

    def test_step_that_counts_no_bytes(self) -> None:
        self.assertNotIn('MiB', self.shown(('extract', 5000, 10000)))

    def test_every_step_has_a_name(self) -> None:
        self.assertLessEqual(IN_BYTES, output.STEPS.keys())
