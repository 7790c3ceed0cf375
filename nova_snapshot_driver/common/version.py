# SPDX-License-Identifier: Apache-2.0
"""The version of the driver."""

from __future__ import annotations

from importlib import metadata

PROJECT = 'nova-snapshot-driver'

#: The header of the answers of a nova-api that has the driver; its value is
#: the version.
HEADER = 'X-Snapshot-Driver'


def installed() -> str:
    """The version that is installed for this Python, if one is."""
    try:
        return metadata.version(PROJECT)
    except metadata.PackageNotFoundError:
        # A checkout in the path of Python is not installed.
        return 'unknown'
