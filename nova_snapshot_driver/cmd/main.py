# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot``: snapshots of libvirt domains."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
from contextlib import contextmanager
from types import FrameType

from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd import cancel
from nova_snapshot_driver.cmd import chain
from nova_snapshot_driver.cmd import create
from nova_snapshot_driver.cmd import recover
from nova_snapshot_driver.cmd import status
from nova_snapshot_driver.cmd import verify
from nova_snapshot_driver.cmd.check import check
from nova_snapshot_driver.cmd.shared import output
from nova_snapshot_driver.cmd.shared import streams
from nova_snapshot_driver.common import reason
from nova_snapshot_driver.common import version
from nova_snapshot_driver.common.cancellation import Cancellation

#: The status of a command that is done, but could not write its result.
EXIT_UNWRITTEN = 3
#: As shells report a program that a signal has ended.
EXIT_CANCELLED = 130
#: Each status that a command may end with, in words of ``--help``.
EXIT_STATUSES = {
    0: 'done',
    1: 'failed; or a check found a failure, a snapshot is damaged, '
    'or something is left to be undone',
    2: 'wrong arguments',
    EXIT_UNWRITTEN: 'done, but the result could not be written',
    check.NOT_SWITCHED_ON: 'ready, but compute_driver names another driver',
    EXIT_CANCELLED: 'interrupted or cancelled, and everything given back',
}

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Whatever is raised, an error becomes one line; ``--verbose`` shows where it
    comes from.

    :returns: 0 for success, 1 for a failure, 2 for wrong arguments, 3 for a
        result that could not be written, and 130 for a command that was
        interrupted
    """
    with streams.usable():
        return _run(_arguments(argv))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser().parse_args(argv)
    except SystemExit as ended:
        # The option --help exits here, and has printed.
        if not ended.code and not streams.is_flushed():
            ended.code = EXIT_UNWRITTEN
        raise


def _run(arguments: argparse.Namespace) -> int:
    _log_to_stderr(arguments.verbose)
    _hear_of_children()
    try:
        configuration = _configuration(arguments)
    except exception.SnapshotError as error:
        output.print_error(error, arguments.format)
        return 1
    read = ', '.join(conf.sources(configuration)) or 'no file, only defaults'
    LOG.info('Configuration: %s', read)
    code = _run_command(arguments, configuration)
    if code == 1:
        output.print_hint(f'Configuration: {read}')
    return code


def _run_command(
    arguments: argparse.Namespace, configuration: cfg.ConfigOpts
) -> int:
    cancellation = Cancellation()
    try:
        with _signals_cancel(cancellation):
            code: int = _in_thread(
                lambda: arguments.run(arguments, configuration, cancellation)
            )
        return code
    except exception.OutputUnwritable as error:
        output.print_error(error, 'table')
        return EXIT_UNWRITTEN
    except exception.SnapshotError as error:
        output.print_error(error, arguments.format)
        if isinstance(error, exception.Cancelled):
            return EXIT_CANCELLED
        return 1
    except OSError as error:
        failure = exception.SnapshotError(reason=reason.of(error))
        output.print_error(failure, arguments.format)
        return 1
    except Exception as error:
        LOG.info('Traceback of the unexpected error', exc_info=True)
        unexpected = exception.UnexpectedError(
            reason=reason.named(error).rstrip('.')
        )
        output.print_error(unexpected, arguments.format)
        return 1


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--format',
        choices=('table', 'json'),
        default='table',
        help='the format of the output (default: %(default)s)',
    )
    common.add_argument(
        '--verbose',
        '-v',
        action='store_true',
        help='log every step to standard error',
    )
    connection = common.add_argument_group(
        'connection',
        'By default the cloud is that of clouds.yaml or of the OS_* '
        'variables.',
    )
    connection.add_argument(
        '--connect',
        '-c',
        metavar='URI',
        help='the libvirt to connect to (default: [libvirt] connection_uri, '
        'or qemu:///system)',
    )
    connection.add_argument(
        '--os-cloud', metavar='NAME', help='a cloud of clouds.yaml'
    )
    connection.add_argument(
        '--glance-url',
        metavar='URL',
        help='the endpoint of a Glance without authentication',
    )
    configuration = common.add_argument_group(
        'configuration',
        'By default nova.conf, nova-compute.conf and nova-snapshot.conf are '
        'read, as far as they are in ~/.nova, ~, /etc/nova or /etc, and all '
        'files of nova.conf.d, nova-compute.conf.d and nova-snapshot.conf.d '
        'there. --verbose names what was read, and so does a failure.',
    )
    configuration.add_argument(
        '--config-file',
        action='append',
        metavar='FILE',
        help='a file to be read instead; may be given several times',
    )
    configuration.add_argument(
        '--snapshots-directory',
        metavar='DIR',
        help='where the temporary files lie (default: [libvirt] '
        'snapshots_directory)',
    )
    configuration.add_argument(
        '--state-directory',
        metavar='DIR',
        help='directory for the journal and locks (default: [snapshot] '
        'state_directory)',
    )

    root = argparse.ArgumentParser(
        prog='nova-snapshot',
        description='Live, consistent and proven snapshots of libvirt '
        'domains.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_exit_statuses(),
    )
    root.add_argument(
        '--version',
        action='version',
        version=version.installed(),
    )
    commands = root.add_subparsers(
        title='commands', metavar='COMMAND', required=True, dest='command'
    )
    create.add_parser(commands, common)
    check.add_parser(commands, common)
    status.add_parser(commands, common)
    cancel.add_parser(commands, common)
    recover.add_parser(commands, common)
    chain.add_parser(commands, common)
    verify.add_parser(commands, common)
    for command in commands.choices.values():
        command.epilog = '"nova-snapshot --help" lists the exit statuses.'
    return root


def _exit_statuses() -> str:
    """The statuses as argparse shows the options."""
    lines = (
        f'  {status:<5} {meaning}' for status, meaning in EXIT_STATUSES.items()
    )
    return '\n'.join(('exit status:', *lines))


def _configuration(arguments: argparse.Namespace) -> cfg.ConfigOpts:
    overrides = [
        ('libvirt', 'connection_uri', arguments.connect),
        (
            'libvirt',
            'snapshots_directory',
            _absolute(arguments.snapshots_directory, '--snapshots-directory'),
        ),
        (
            'snapshot',
            'state_directory',
            _absolute(arguments.state_directory, '--state-directory'),
        ),
        *arguments.overrides(arguments),
    ]
    try:
        return conf.load(
            arguments.config_file,
            [override for override in overrides if override[2] is not None],
        )
    # oslo.config lets exceptions through: of opening, decoding and parsing a
    # file, and of the type of an option.
    except Exception as error:
        raise exception.ConfigurationInvalid(
            reason=reason.of(error)
        ) from error


class _Lines(logging.Formatter):
    """Formats each record in one line, without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return f'{record.levelname} {reason.plain(record.getMessage())}'


def _absolute(path: str | None, option: str) -> str | None:
    """The absolute path of a directory that an option names.

    :raises DirectoryUnusable: the path is relative to a directory that is gone
    """
    if path is None:
        return None
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise exception.DirectoryUnusable(
            directory=path, reason=error.strerror, option=option
        ) from error


def _log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter('%(levelname)s %(message)s') if verbose else _Lines()
    )
    logging.basicConfig(
        handlers=[handler],
        level=logging.INFO if verbose else logging.ERROR,
    )
    logging.captureWarnings(True)
    threading.excepthook = _log_death


def _log_death(death: threading.ExceptHookArgs) -> None:
    """Log the death of a thread; Python would print a traceback."""
    if death.exc_value is not None:
        LOG.error(
            'A thread has died: %s',
            reason.named(death.exc_value),
            exc_info=death.exc_value,
        )


def _hear_of_children() -> None:
    """Restore SIGCHLD, whatever a shell has ignored.

    Where the signal is ignored, every child seems to have succeeded.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def _signals_cancel(cancellation: Cancellation) -> Iterator[None]:
    """Let a signal end the command in order: everything is given back.

    An ignored signal stays ignored, as by nohup(1) and in the background.
    """

    def cancel(number: int, _frame: FrameType | None) -> None:
        cancellation.request(signal.Signals(number).name)

    previous = {
        number: signal.signal(number, cancel)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _in_thread(command: Callable[[], int]) -> int:
    """Run the command in a thread that no signal handler interrupts."""
    with futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(command).result()


if __name__ == '__main__':
    sys.exit(main())
