# SPDX-License-Identifier: Apache-2.0
"""The user that nova-compute runs as."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from typing import Self

from oslo_config import cfg

from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import NotKnown
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.common import children
from nova_snapshot_driver.state.reach import user_name

ROOT = 0


@dataclasses.dataclass(frozen=True)
class NovaUser:
    """The user that nova-compute runs as, told by the owner of Nova's files.

    :ivar owned: the path that tells; None where there is nothing of Nova's,
        and the user is the one that runs this command
    :ivar hidden: a path that would tell, and that nobody could look at; the
        user is the one that runs this command then
    """

    uid: int
    gid: int
    owned: str | None
    hidden: str | None = None

    @classmethod
    def find(cls, conf: cfg.ConfigOpts) -> Self:
        hidden = None
        for path in (conf.instances_path, conf.state_path):
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                # The directory above it may still tell.
                hidden = hidden or path
                continue
            return cls(status.st_uid, status.st_gid, path)
        return cls(os.geteuid(), os.getegid(), None, hidden)

    @property
    def name(self) -> str:
        return user_name(self.uid)

    @property
    def is_somebody_else(self) -> bool:
        return self.uid != os.geteuid()

    @property
    def is_out_of_reach(self) -> bool:
        """Whether this process is neither that user nor root."""
        return self.is_somebody_else and os.geteuid() != ROOT

    def see_in_reach(self, path: str) -> None:
        """See that what the user may do with a path can be tried.

        :raises NotKnown: it can't
        """
        if self.hidden is not None:
            raise NotKnown(
                f'whether nova-compute can use {path}, since nobody can tell '
                'as whom it runs, for the reason that "User" has.'
            )
        if self.is_out_of_reach:
            raise NotKnown(
                f'whether {self.name} can use {path}, as this is '
                f'{user_name(os.geteuid())}. Run this command as {self.name}, '
                'or as root.'
            )

    def findings(self, files: list[str]) -> Iterator[Finding]:
        """The note that nova-compute runs as somebody else, with other rights.

        :param files: the configuration files
        """
        if self.hidden is not None:
            yield Finding(
                'User',
                Verdict.WARNING,
                f'{NOT_KNOWN} {self.hidden} cannot be looked at, whose owner '
                f'nova-compute runs as. It is taken to be {self.name}. Run '
                'this command as that owner, or as root.',
            )
        elif self.is_somebody_else:
            yield self._somebody_else(files)

    def _somebody_else(self, files: list[str]) -> Finding:
        program = sys.argv[0]
        if os.path.basename(program) != 'nova-snapshot':
            program = 'nova-snapshot'
        command = shlex.join(
            [
                *('sudo', '-u', self.name, program, 'check'),
                *(word for path in files for word in ('--config-file', path)),
            ]
        )
        return Finding(
            'User',
            Verdict.WARNING,
            f'This is {user_name(os.geteuid())}, and {self.owned} belongs to '
            f'{self.name}, as whom nova-compute runs then. What was tried '
            f'here may not work there. Try it as that user too: {command}',
        )

    def may_write(self, directory: str) -> bool:
        """Whether the kernel lets the user create files in a directory.

        Root asks in the name of that user.

        :raises NotKnown: this process may not do so
        """
        self.see_in_reach(directory)
        identity = self.identity()
        if not identity:
            return os.access(directory, os.W_OK | os.X_OK)
        command = ['test', '-w', directory, '-a', '-x', directory]
        children.log_start(command)
        try:
            answer = subprocess.run(  # noqa: S603 (a list, and no shell)
                command,
                stdin=subprocess.DEVNULL,
                env=children.environment(),
                **identity,
            )
        except PermissionError as error:
            raise NotKnown(
                f'this root may not act as {self.name}, to see whether that '
                f'user can write to {directory}. Run this command as that '
                'user.'
            ) from error
        return answer.returncode == 0

    def identity(self) -> dict[str, Any]:
        """The arguments of ``subprocess`` that run a command as the user.

        :returns: nothing where the user is us, or we may not change it
        """
        if not self.is_somebody_else or os.geteuid() != ROOT:
            return {}
        try:
            user = pwd.getpwuid(self.uid)
        except KeyError:
            return {'user': self.uid, 'group': self.gid, 'extra_groups': []}
        return {
            'user': self.uid,
            'group': user.pw_gid,
            'extra_groups': os.getgrouplist(user.pw_name, user.pw_gid),
        }
