# SPDX-License-Identifier: Apache-2.0
"""``nova-snapshot``: snapshots of libvirt domains."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
from contextlib import contextmanager
from importlib import metadata
from types import FrameType

from oslo_config import cfg

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.cancellation import Cancellation
from nova_snapshot_driver.cmd import cancel
from nova_snapshot_driver.cmd import check
from nova_snapshot_driver.cmd import create
from nova_snapshot_driver.cmd import output
from nova_snapshot_driver.cmd import recover
from nova_snapshot_driver.cmd import status

#: As shells report a program that a signal has ended.
EXIT_CANCELLED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :returns: 0 for success, 1 for a failure, 2 for wrong arguments, and 130
        for a command that was interrupted
    """
    arguments = parser().parse_args(argv)
    _log_to_stderr(arguments.verbose)
    cancellation = Cancellation()
    try:
        configuration = _configuration(arguments)
        with _signals_cancel(cancellation):
            code: int = _in_thread(
                lambda: arguments.run(arguments, configuration, cancellation)
            )
        return code
    except exception.SnapshotError as error:
        output.print_error(error, arguments.format)
        if isinstance(error, exception.Cancelled):
            return EXIT_CANCELLED
        return 1
    except OSError as error:
        unexpected = exception.SnapshotError(reason=str(error))
        output.print_error(unexpected, arguments.format)
        return 1


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--config-file',
        action='append',
        metavar='FILE',
        help='a nova.conf; may be given several times (default: where '
        'OpenStack keeps it)',
    )
    common.add_argument(
        '--connect',
        '-c',
        metavar='URI',
        help='the libvirt to connect to (default: [libvirt] connection_uri, '
        'or qemu:///system)',
    )
    common.add_argument(
        '--snapshots-directory',
        metavar='DIR',
        help='where the temporary files lie (default: [libvirt] '
        'snapshots_directory)',
    )
    common.add_argument(
        '--state-directory',
        metavar='DIR',
        help='where the driver keeps what it must not forget (default: '
        '[snapshot] state_directory)',
    )
    common.add_argument(
        '--format',
        choices=('table', 'json'),
        default='table',
        help='how the result is printed (default: %(default)s)',
    )
    common.add_argument(
        '--verbose',
        '-v',
        action='store_true',
        help='log every step to standard error',
    )
    cloud = common.add_argument_group(
        'cloud',
        'By default the cloud of clouds.yaml or of the OS_* variables.',
    )
    cloud.add_argument(
        '--os-cloud', metavar='NAME', help='a cloud of clouds.yaml'
    )
    cloud.add_argument(
        '--glance-url',
        metavar='URL',
        help='a Glance that asks for no authentication',
    )

    root = argparse.ArgumentParser(
        prog='nova-snapshot',
        description='Live, consistent and proven snapshots of libvirt '
        'domains.',
    )
    root.add_argument(
        '--version',
        action='version',
        version=metadata.version('nova-snapshot-driver'),
    )
    commands = root.add_subparsers(
        metavar='COMMAND', required=True, dest='command'
    )
    create.add_parser(commands, common)
    check.add_parser(commands, common)
    status.add_parser(commands, common)
    cancel.add_parser(commands, common)
    recover.add_parser(commands, common)
    return root


def _configuration(arguments: argparse.Namespace) -> cfg.ConfigOpts:
    overrides = [
        ('libvirt', 'connection_uri', arguments.connect),
        ('libvirt', 'snapshots_directory', arguments.snapshots_directory),
        ('snapshot', 'state_directory', arguments.state_directory),
        *arguments.overrides(arguments),
    ]
    try:
        return conf.load(
            arguments.config_file,
            [override for override in overrides if override[2] is not None],
        )
    except (cfg.Error, ValueError) as error:
        raise exception.ConfigurationInvalid(reason=str(error)) from error


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.ERROR,
        format='%(levelname)s %(message)s',
    )


@contextmanager
def _signals_cancel(cancellation: Cancellation) -> Iterator[None]:
    """A signal ends the command in order, and gives everything back."""

    def cancel(number: int, _frame: FrameType | None) -> None:
        cancellation.request(signal.Signals(number).name)

    previous = {
        number: signal.signal(number, cancel)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _in_thread(command: Callable[[], int]) -> int:
    """Run the command where a signal handler does not interrupt it."""
    with futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(command).result()


if __name__ == '__main__':
    sys.exit(main())
