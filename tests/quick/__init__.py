# SPDX-License-Identifier: Apache-2.0
"""The unit tests without those that take most of the time.

Tables of faults take snapshots while they are loaded, to find their rows: a
module that is left out is not even loaded.
"""

from __future__ import annotations

import pathlib
import unittest

TESTS = pathlib.Path(__file__).parents[1]

#: Large tables: of faults, of states of a guest, of errors of clients, of the
#: options that bound waits.
TABLES = frozenset(
    {
        'test_bounds',
        'test_ceph_clone',
        'test_clients',
        'test_every_death',
        'test_every_fault',
        'test_every_fault_of_increments',
        'test_every_fault_of_volumes',
        'test_every_silence',
        'test_states',
    }
)
#: Inputs that hypothesis thinks of, from end to end.
FUZZING = frozenset({'test_any_entry', 'test_bad_input'})
#: Tables with a process for each row.
PROCESSES = frozenset(
    {
        'test_bindings',
        'test_cancel',
        'test_chain',
        'test_data_plane',
        'test_deployment',
        'test_guard',
        'test_misconfigurations',
        'test_increment',
        'test_prune',
        'test_restore',
        'test_save',
        'test_source',
        'test_stream',
        'test_streams',
        'test_verify',
    }
)
LEFT_OUT = TABLES | FUZZING | PROCESSES


def load_tests(
    loader: unittest.TestLoader, _tests: unittest.TestSuite, _pattern: str
) -> unittest.TestSuite:
    """Load what is not left out, as unittest asks a package."""
    paths = sorted((TESTS / 'unit').rglob('test_*.py'))
    gone = LEFT_OUT - {path.stem for path in paths}
    if gone:
        raise LookupError(f'There is nothing to leave out: {sorted(gone)}')
    return unittest.TestSuite(
        loader.loadTestsFromName(
            '.'.join(path.relative_to(TESTS.parent).with_suffix('').parts)
        )
        for path in paths
        if path.stem not in LEFT_OUT
    )
