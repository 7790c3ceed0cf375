# SPDX-License-Identifier: Apache-2.0
"""The user that nova-compute runs as."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shlex
import subprocess
import sys
from typing import Any
from typing import Self

from oslo_config import cfg

from nova_snapshot_driver.cmd.finding import Finding

ROOT = 0


@dataclasses.dataclass(frozen=True)
class NovaUser:
    """Told by what belongs to Nova on this host.

    :ivar owned: what that is; None where there is nothing of Nova's, and
        the user is whoever runs this command
    """

    uid: int
    gid: int
    owned: str | None

    @classmethod
    def find(cls, conf: cfg.ConfigOpts) -> Self:
        for path in (conf.instances_path, conf.state_path):
            try:
                status = os.stat(path)
            except OSError:
                continue
            return cls(status.st_uid, status.st_gid, path)
        return cls(os.geteuid(), os.getegid(), None)

    @property
    def name(self) -> str:
        return _name(self.uid)

    @property
    def is_somebody_else(self) -> bool:
        return self.uid != os.geteuid()

    def finding(self, files: list[str]) -> Finding:
        """That it is somebody else, who may not be able to do the same.

        :param files: the configuration files
        """
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
            'note',
            f'This is {_name(os.geteuid())}, and {self.owned} belongs to '
            f'{self.name}, as whom nova-compute runs then. What was tried '
            f'here may not work there. Try it as that user too: {command}',
        )

    def may_write(self, directory: str) -> bool:
        """Whether it may make files in a directory, by what the kernel says.

        As root this is asked in the name of that user.
        """
        identity = self.identity()
        if not identity:
            return os.access(directory, os.W_OK | os.X_OK)
        try:
            answer = subprocess.run(
                ['test', '-w', directory, '-a', '-x', directory],
                stdin=subprocess.DEVNULL,
                **identity,
            )
        except PermissionError:
            # This root may not become somebody else, and can't tell.
            return True
        return answer.returncode == 0

    def identity(self) -> dict[str, Any]:
        """What makes ``subprocess`` run something in its name.

        :returns: nothing where that is us, or is not for us to do
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


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f'#{uid}'
