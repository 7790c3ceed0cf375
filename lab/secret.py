# SPDX-License-Identifier: Apache-2.0
"""The secret of libvirt with which the lab encrypts disks."""

import base64
from pathlib import Path

UUID = '6f0c9a0e-4f0e-4d4b-9b59-1d6c7a1b5f3e'

PASSPHRASE = 'correct horse, battery staple'


def keep(directory: Path) -> None:
    """Store the secret in the format of libvirt's own files.

    Defining a secret through the embedded driver crashes libvirt 9.0.

    :param directory: where libvirt looks for them when it starts
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f'{UUID}.xml').write_text(
        "<secret ephemeral='no' private='no'>"
        f'<uuid>{UUID}</uuid><description>lab</description></secret>'
    )
    value = directory / f'{UUID}.base64'
    value.touch(mode=0o600)
    value.write_text(base64.b64encode(PASSPHRASE.encode()).decode())


def passphrase_file(directory: Path) -> Path:
    """A file for the tools of QEMU, which take it from there."""
    path = directory / 'passphrase'
    path.touch(mode=0o600)
    path.write_text(PASSPHRASE)
    return path
