# SPDX-License-Identifier: Apache-2.0
"""The Python that nova-compute runs on, which may be another than ours."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import Any
from typing import Self

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import interview
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.cmd.check.paths import may_exist
from nova_snapshot_driver.common import children
from nova_snapshot_driver.common import wait
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.state.reach import user_name

#: The nova-compute of distributions, for a PATH that does not have it.
USUAL_SCRIPT = '/usr/bin/nova-compute'

#: The least version of Python, as in pyproject.toml.
LEAST_PYTHON = [3, 11]

#: How long the import of Nova may take, in seconds: it takes two.
TIMEOUT = 60
POLL_INTERVAL = 0.5

#: The advice where the interpreter can't be told.
OPTION = 'Name the Python that nova-compute runs on with --nova-python.'


@dataclasses.dataclass(frozen=True)
class Failure:
    """An exception of another process.

    :ivar module: that could not be imported, if it was that
    :ivar where: the file and the line
    """

    kind: str
    message: str
    module: str | None
    where: str

    def __str__(self) -> str:
        return f'{self.kind}: {self.message} ({self.where})'


@dataclasses.dataclass(frozen=True)
class Libnbd:
    """libnbd's module, as the driver finds it in an interpreter.

    :ivar other: the extension that is built for another Python, if any
    :ivar tag: of the interpreter, such as ``cpython-311``
    :ivar failure: why it can't be loaded, where it is available
    """

    is_available: bool
    other: str | None
    tag: str
    failure: str | None


@dataclasses.dataclass(frozen=True)
class Unmet:
    """A requirement of the driver that an interpreter does not meet.

    :ivar least: the versions that would do, such as ``>=2.0``
    :ivar version: that is installed; None if none is
    :ivar extra: that has the requirement; empty for one of every installation
    """

    name: str
    least: str
    version: str | None
    extra: str

    @property
    def requirement(self) -> str:
        """The requirement as pip takes it."""
        return f'{self.name}{self.least}'

    def __str__(self) -> str:
        found = 'is missing' if self.version is None else f'is {self.version}'
        return f'{self.name} {found} ({self.least or "any"})'


@dataclasses.dataclass(frozen=True)
class Interview:
    """An interpreter's answers about Nova and about the driver.

    :ivar prefix: of the environment, the directory over ``bin``
    :ivar purelib: where pip installs packages
    :ivar externally_managed: pip wants to be told twice, as this is the
        distribution's own
    :ivar nova: the directory of the package ``nova``; None if there is none
    :ivar nova_failure: why ``nova.virt.driver`` can't be imported
    :ivar owners: other projects that claim to own that package
    :ivar hidden: directories with a Nova that is hidden by that package
    :ivar package: the directory that holds ``nova_snapshot_driver``
    :ivar virt: the directory in which Nova looks for drivers
    :ivar visible: Nova finds ``nova.virt.snapshot_driver``
    :ivar driver_failure: why it can't be imported
    :ivar is_driver: it has a class of the kind that Nova wants
    :ivar unmet: the driver's requirements that are missing or too old; None
        where nobody can tell
    :ivar has_libvirt: there is a libvirt-python
    :ivar has_metrics: there is a prometheus_client
    :ivar libnbd: None where the driver there can't tell
    """

    prefix: str
    purelib: str
    externally_managed: bool
    nova: str | None
    nova_version: str | None
    nova_failure: Failure | None
    owners: list[str]
    hidden: list[str]
    package: str | None
    package_version: str | None
    virt: str | None
    visible: bool
    driver_failure: Failure | None
    is_driver: bool
    unmet: list[Unmet] | None
    has_libvirt: bool
    has_metrics: bool
    libnbd: Libnbd | None

    @property
    def is_ours(self) -> bool:
        """Whether the interpreter's environment is that of this command."""
        return os.path.realpath(self.prefix) == os.path.realpath(sys.prefix)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        if fields['unmet'] is not None:
            fields['unmet'] = [Unmet(**each) for each in fields['unmet']]
        if fields['libnbd'] is not None:
            fields['libnbd'] = Libnbd(**fields['libnbd'])
        for name in ('nova_failure', 'driver_failure'):
            if fields[name] is not None:
                fields[name] = Failure(**fields[name])
        return cls(**fields)


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """A Python, by its path.

    :ivar assumed: for want of anything that would name it
    :ivar script: the nova-compute that names it, if one does
    :ivar others: scripts of that name that run on another one, or do not say
        on which
    """

    path: str
    assumed: bool = False
    script: str | None = None
    others: tuple[str, ...] = ()

    @classmethod
    def find(cls, path: str | None) -> Self:
        """The interpreter of nova-compute; ours where there is none.

        :param path: as somebody has named it who knows
        :raises SnapshotError: there is a nova-compute, and no telling
        """
        if path is not None:
            return cls(path)
        scripts = _scripts()
        if not scripts:
            return cls(sys.executable, assumed=True)
        found, *others = scripts
        try:
            python = _python_of(found)
        except OSError as error:
            raise exception.SnapshotError(
                reason=f'{NOT_KNOWN} {found} cannot be read '
                f'({error.strerror}). Run this command as root, or as the '
                f'user of nova-compute. {OPTION}'
            ) from error
        if python is None:
            raise exception.SnapshotError(
                reason=f'{found} does not say which Python it runs on. '
                f'{OPTION}'
            )
        return cls(
            python,
            script=found,
            others=tuple(
                other for other in others if not _runs_on(other, python)
            ),
        )

    def pip(self, *arguments: str) -> str:
        """The command with which a person installs something there."""
        return shlex.join([self.path, '-m', 'pip', *arguments])

    def ask(self, user: NovaUser, cancellation: Cancellation) -> Interview:
        """Have it look for Nova and the driver.

        :param user: in whose name it is asked, if we are root: what root can
            read that user may not
        :raises SnapshotError: it does not answer, or is too old
        """
        version = self._run(
            'import sys; print(list(sys.version_info[:2]))', user, cancellation
        )
        if version < LEAST_PYTHON:
            raise exception.SnapshotError(
                reason=f'{self.path} is Python {_dotted(version)}, and this '
                f'driver needs a Nova that runs on {_dotted(LEAST_PYTHON)}.'
            )
        answers = self._run(inspect.getsource(interview), user, cancellation)
        return Interview.of(answers)

    def _run(
        self, program: str, user: NovaUser, cancellation: Cancellation
    ) -> Any:
        """The last line that a program prints, which is JSON.

        The program sees what nova-compute sees, and leaves nothing behind:
        neither the environment of this process nor that of its user counts
        (``-I``), and no bytecode is written that belongs to somebody else
        (``-B``).
        """
        command = [self.path, '-I', '-B', '-c']
        children.log_start([*command, '<a program>'])
        try:
            process = subprocess.Popen(  # noqa: S603 (a program of ours)
                # The program itself, as its file may be out of reach.
                [*command, program],
                env=children.environment(
                    OS_NOVA_DISABLE_EVENTLET_PATCHING='1'
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors='replace',
                **user.identity(),
            )
        except OSError as error:
            raise exception.SnapshotError(
                reason=self._why_not_run(error, user)
            ) from error
        with process:
            try:
                output, errors = self._answer_of(process, cancellation)
            finally:
                process.kill()
        try:
            return json.loads(output.splitlines()[-1])
        except (IndexError, ValueError):
            raise exception.SnapshotError(
                reason=f'{self.path} gave no answer (exit status '
                f'{process.returncode}): {(errors or output).strip()[-500:]} '
                f'{OPTION}'
            ) from None

    def _why_not_run(self, error: OSError, user: NovaUser) -> str:
        if user.is_out_of_reach:
            return (
                f'{NOT_KNOWN} {self.path} cannot be run by '
                f'{user_name(os.geteuid())} ({error.strerror}). Run this '
                f'command as {user.name}, or as root.'
            )
        if error.errno == errno.EPERM and user.is_somebody_else:
            return (
                f'{NOT_KNOWN} this root may not act as {user.name}, to run '
                f'{self.path}. Run this command as that user.'
            )
        return (
            f'{self.path} cannot be run by {user.name}: {error.strerror}. '
            f'{OPTION}'
        )

    def _answer_of(
        self, process: subprocess.Popen[str], cancellation: Cancellation
    ) -> tuple[str, str]:
        """Both outputs of a process that has ended.

        :raises SnapshotError: it has not ended in time
        """
        answers: list[tuple[str, str]] = []

        def has_ended() -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                answers.append(process.communicate(timeout=POLL_INTERVAL))
            return bool(answers)

        wait.until(
            has_ended,
            TIMEOUT,
            exception.SnapshotError(
                reason=f'{self.path} did not answer within {TIMEOUT} s.'
            ),
            interval=0,
            cancellation=cancellation,
        )
        return answers[0]


def _scripts() -> list[str]:
    """Every nova-compute that may be the one that runs, likeliest first."""
    candidates = (
        shutil.which('nova-compute'),
        os.path.join(os.path.dirname(sys.executable), 'nova-compute'),
        USUAL_SCRIPT,
    )
    return list(
        dict.fromkeys(path for path in candidates if path and may_exist(path))
    )


def _runs_on(script: str, python: str) -> bool:
    """Whether a script runs on a Python, for certain."""
    try:
        return _python_of(script) == python
    except OSError:
        return False


def _python_of(script: str) -> str | None:
    """The interpreter that a script names, if that is a Python.

    :raises OSError: it can't be read
    """
    with open(script, encoding='utf-8', errors='replace') as file:
        first, second = file.readline(), file.readline()
    if not first.startswith('#!'):
        return None
    command = _words(first.removeprefix('#!'))
    if os.path.basename(command[0]) == 'env':
        named = next(
            (word for word in command[1:] if not word.startswith('-')), ''
        )
        command = [shutil.which(named) or named]
    # pip writes a line of shell that is a string in Python where the path is
    # too long for a shebang, or has a space.
    if os.path.basename(command[0]) == 'sh':
        command = [*_words(second), '', ''][1:]
    is_python = os.path.basename(command[0]).startswith('python')
    return command[0] if is_python else None


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line) or ['']
    except ValueError:
        return ['']


def _dotted(version: list[int]) -> str:
    return '.'.join(map(str, version))
