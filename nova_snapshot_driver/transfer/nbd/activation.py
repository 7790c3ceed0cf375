# SPDX-License-Identifier: Apache-2.0
"""``python activation.py COMMAND...``: a command that is handed a socket.

The socket is the standard input of this process. The command finds it as under
systemd's socket activation, and has an empty standard input. Source:
sd_listen_fds(3)
"""

from __future__ import annotations

import os
import resource
import sys

STDIN = 0

#: The descriptor of the first socket (SD_LISTEN_FDS_START).
FIRST = 3


def main(command: list[str]) -> None:
    os.dup2(STDIN, FIRST)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN)
    os.environ['LISTEN_FDS'] = '1'
    # Raise the limit, which is too low for a tool.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    # Set the id here: the parent learns it too late.
    os.environ['LISTEN_PID'] = str(os.getpid())
    os.execvp(command[0], command)  # noqa: S606 (there is no shell in between)


if __name__ == '__main__':
    main(sys.argv[1:])
