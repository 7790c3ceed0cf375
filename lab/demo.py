# SPDX-License-Identifier: Apache-2.0
"""The demo: a guest runs, is snapshotted, and everything is proven."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glanceclient
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.apart import apart
from lab.directory import lab_directory
from lab.disks import Layer
from lab.errors import LabError
from lab.evidence import EvidenceError
from lab.evidence import examine
from lab.glance import Glance
from lab.glance_install import GlanceInstall
from lab.guest import WitnessGuest
from lab.hypervisor import Hypervisor
from lab.options import GuestOptions
from lab.options import Shape
from lab.witness import WitnessImage

MIB = 1 << 20

#: MiB
DISK_SIZE = 2048
BASE_FILL = 256
OVERLAY_FILL = 64
CHANGED_FILL = 8

CHANGED_SEED = 4

#: Seconds
BASELINE = 2
COMMAND_TIMEOUT = 300
TICK_TIMEOUT = 10

CONSOLE = Console(highlight=False)


class Demo:
    """A run of the demo, with everything it starts below one directory."""

    def __init__(self, directory: Path, image: WitnessImage) -> None:
        self._directory = directory
        hypervisor = Hypervisor(directory / 'hv')
        self._guest = WitnessGuest(
            hypervisor, GuestOptions('witness', Shape.CHAIN2), image
        )
        self._copy = WitnessGuest(
            hypervisor,
            GuestOptions(
                'copy', Shape.QCOW2, snapshot=directory / 'downloaded'
            ),
            image,
        )
        self._glance = Glance(directory / 'glance')

    def run(self) -> dict[str, str]:
        """Snapshot a guest and return what was proven, by subject."""
        with contextlib.ExitStack() as stack:
            with step('Start a Glance without Keystone'):
                stack.callback(self._glance.discard)
                self._glance.start()
            with step('Boot a guest, which writes and syncs all the time'):
                stack.callback(apart, self._guest.discard)
                apart(self._guest.boot)
                apart(self._guest.write_fill, OVERLAY_FILL)
            ticks = stack.enter_context(self._guest.ticks)
            definition = apart(self._guest.definition)

            self._command('check', self._guest.name, capture=False)
            idle = _longest_gap(ticks, BASELINE)
            began, earliest = time.monotonic(), ticks.last
            snapshot = json.loads(
                self._command(
                    *('create', self._guest.name),
                    *('--name', 'demo', '--quiesce', 'require'),
                    *('--format', 'json'),
                )
            )
            stall = ticks.longest_gap(began, time.monotonic())

            if apart(self._guest.definition) != definition:
                raise EvidenceError('the domain is not as it was before')
            ticks.wait(5, TICK_TIMEOUT)
            full, increment = self._chain()
            with step('Download the image and compare it, bit by bit'):
                downloaded = self._download(snapshot)
            with step('Check its file system'):
                evidence = examine(downloaded, self._guest.fills)
                if evidence.records < earliest:
                    raise EvidenceError(
                        'the image lacks records that were synced before'
                    )
            with step('Boot it'):
                stack.callback(apart, self._copy.discard)
                record = self._record_of_copy()
                if record <= evidence.records:
                    raise EvidenceError(
                        f'the copy continues at record {record}'
                    )
        return {
            'Method': f'{snapshot["method"]} ({snapshot["method_reason"]})',
            'To Glance': 'streamed, in one pass'
            if snapshot['streamed']
            else f'converted, then uploaded ({snapshot["streamed_reason"]})',
            'Quiesced': snapshot['quiesced_reason'],
            'Longest stall seen by the guest': f'{stall * 1000:.0f} ms '
            f'({idle * 1000:.0f} ms in {BASELINE} s before)',
            'Image in Glance': f'{snapshot["size"] / MIB:.0f} MiB, '
            f'{snapshot["disk_format"]}, active',
            'SHA-512 sent = stored = downloaded': snapshot['sha512'][:16]
            + '…',
            'qemu-img check, e2fsck': 'no errors; '
            + (
                'the journal was replayed'
                if evidence.journal_replayed
                else 'clean without its journal'
            ),
            'Log of the guest': f'records 1 to {evidence.records}, no gap',
            'Files of the guest': ', '.join(
                f'{name} identical' for name in sorted(evidence.fills)
            ),
            'Chain of files': _chain_in_words(full, increment),
            'Booted from the snapshot': 'the witness continues at record '
            f'{record}',
            'The guest itself': f'still runs, at record {ticks.last}; its '
            'domain is defined as before',
        }

    def _chain(self) -> list[dict[str, Any]]:
        """A full snapshot and an increment, in a chain of files."""
        full = self._snapshot_of_chain('monday')
        apart(
            self._guest.agent_exec,
            f'witness fill {CHANGED_FILL} {CHANGED_SEED} >/data/more && sync',
        )
        return [full, self._snapshot_of_chain('tuesday')]

    def _snapshot_of_chain(self, name: str) -> dict[str, Any]:
        taken = json.loads(
            self._command(
                *('create', self._guest.name),
                *('--into', str(self._directory / 'chain'), '--name', name),
                *('--format', 'json'),
            )
        )
        increment: dict[str, Any] = taken['increment']
        return increment

    def _command(self, *arguments: str, capture: bool = True) -> str:
        """Run nova-snapshot, as a person would."""
        CONSOLE.print(Text(f'\n$ nova-snapshot {" ".join(arguments)}', 'bold'))
        program = Path(sys.executable).with_name('nova-snapshot')
        done = subprocess.run(
            [
                program,
                *arguments,
                *('--connect', self._guest.hypervisor.uri),
                *('--snapshots-directory', self._directory / 'snapshots'),
                *('--state-directory', self._directory / 'state'),
                *('--glance-url', self._glance.url),
            ],
            stdout=subprocess.PIPE if capture else None,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT,
            text=True,
            check=False,
        )
        if capture:
            print(done.stdout)
        if done.returncode:
            raise LabError(
                f'nova-snapshot ended with status {done.returncode}'
            )
        return done.stdout or ''

    def _download(self, snapshot: dict[str, Any]) -> Layer:
        client = glanceclient.Client('2', self._glance.url)
        target = self._directory / 'downloaded'
        digest = hashlib.sha512()
        with target.open('wb') as file:
            for block in client.images.data(snapshot['image']):
                digest.update(block)
                file.write(block)
        stored = client.images.get(snapshot['image'])
        found = {
            'sent': snapshot['sha512'],
            'stored': stored.os_hash_value,
            'downloaded': digest.hexdigest(),
        }
        if len(set(found.values())) != 1 or stored.status != 'active':
            raise EvidenceError(f'the hashes differ: {found}')
        return Layer(target, snapshot['disk_format'])

    def _record_of_copy(self) -> int:
        apart(self._copy.boot)
        with self._copy.ticks as ticks:
            ticks.wait(1, TICK_TIMEOUT)
            return ticks.last


def main() -> int:
    began = time.monotonic()
    # libvirt in this process would print its own log.
    os.environ.setdefault('LIBVIRT_DEBUG', '4')
    try:
        with step('Build a guest from packages of the distribution'):
            image = WitnessImage.build(DISK_SIZE, BASE_FILL)
        with step('Install Glance into a virtual environment'):
            GlanceInstall.ensure()
        with tempfile.TemporaryDirectory(
            dir=lab_directory(), prefix='d'
        ) as directory:
            proven = Demo(Path(directory), image).run()
    except (LabError, EvidenceError, subprocess.TimeoutExpired) as error:
        CONSOLE.print(Text(f'The demo failed: {error}', 'bold red'))
        return 1
    table = Table(
        title=f'\nProven, {time.monotonic() - began:.0f} s after the start',
        title_justify='left',
        title_style='bold',
        box=box.SIMPLE,
        show_header=False,
    )
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for subject, result in proven.items():
        table.add_row(subject, Text(result))
    CONSOLE.print(table)
    return 0


def _chain_in_words(full: dict[str, Any], increment: dict[str, Any]) -> str:
    written, more = (each['written'] / MIB for each in (full, increment))
    return (
        f'full {written:.1f} MiB, then an increment of {more:.1f} MiB, by '
        f'{increment["way"]}'
    )


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    began = time.monotonic()
    if CONSOLE.is_terminal:
        with CONSOLE.status(name):
            yield
    else:
        yield
    CONSOLE.print(f'{name}: {time.monotonic() - began:.1f} s')


def _longest_gap(ticks: Any, seconds: float) -> float:
    began = time.monotonic()
    time.sleep(seconds)
    gap: float = ticks.longest_gap(began, time.monotonic())
    return gap


if __name__ == '__main__':
    sys.exit(main())
