# SPDX-License-Identifier: Apache-2.0
"""The subjects of snapshots."""

BLOCK = 'block device of 4 GiB'
EMPTY = 'empty, 1 GiB'
EMPTY_HUGE = 'empty, 2 TiB'
PAUSED = 'paused, 1 GiB'
ZEROS = '1 GiB of zeros'


def subject_of(size: int) -> str:
    """The name of a guest with so many GiB of data."""
    return f'{size} GiB of data'
