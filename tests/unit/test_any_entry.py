# SPDX-License-Identifier: Apache-2.0
"""Arbitrary journal entries, which must not remove files of others."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import fixtures
import hypothesis
import testtools
from hypothesis import strategies

from nova_snapshot_driver import conf
from nova_snapshot_driver.common import private_files
from nova_snapshot_driver.recovery import dead_snapshot
from nova_snapshot_driver.state.entry import Entry
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.takings import registry
from nova_snapshot_driver.takings.draft import Draft
from nova_snapshot_driver.takings.temporary_files import TemporaryFiles
from tests import exhaustive
from tests.unit import documents

LOOK = hypothesis.settings(
    max_examples=exhaustive.examples(150),
    deadline=None,
    database=None,
    derandomize=exhaustive.examples(1) == 1,
)

GOOD = json.loads(Entry('web-1', documents.UUID).to_json())

#: An entry as the former version has written it.
FORMER: dict[str, Any] = {
    'version': 1,
    'definition': {
        'name': 'web-1',
        'uuid': documents.UUID,
        'xml': '',
        'autostart': False,
    },
    'persistent': False,
    'power_state': None,
    'devices': [],
    'frozen': False,
    'image': None,
}

STRANGER = 65534

#: The files of root beside the state directory, under names that snapshots
#: use.
PRECIOUS = (
    'file',
    'image.0a1b2c3d.part',
    f'{documents.UUID}-a/file',
    f'{documents.UUID}.nbd/file',
    f'{documents.UUID}.json',
)

#: Text that leads nowhere: where the driver failed, a test that root runs is
#: to remove nothing but what the test has made.
TEXT = strategies.text(
    strategies.characters(exclude_characters='/.'), max_size=20
)

#: A path, of which ``{root}`` is where that lies, and ``{state}`` the state
#: directory, in which a link leads there. None is outside of the test's own.
PATHS = strategies.builds(
    '{}/{}'.format,
    strategies.sampled_from(['{root}', '{state}/link', '{state}/../precious']),
    strategies.sampled_from(
        ['', '.', '*', *PRECIOUS, f'{documents.UUID}-a', 'missing']
    )
    | TEXT,
)

JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | TEXT
    | PATHS,
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(TEXT, inner)
    ),
    max_leaves=5,
)

UUIDS = strategies.sampled_from(
    [*[documents.UUID] * 4, documents.UUID.upper(), '*', '?', 'file']
)

#: A field of another kind, or one more, which makes it none.
SPOILED = strategies.dictionaries(
    strategies.sampled_from([*GOOD, 'another']), JSON, max_size=1
)

TAKINGS = strategies.builds(
    lambda kind, name, value: {'kind': kind, name: value},
    strategies.sampled_from([kind.KIND for kind in registry.KINDS]),
    strategies.sampled_from(['path', 'directory', 'image', 'another']),
    PATHS | JSON,
) | strategies.builds(
    lambda taking, value: {'kind': taking[0], taking[1]: value},
    strategies.sampled_from(
        [(Draft.KIND, 'path'), (TemporaryFiles.KIND, 'directory')]
    ),
    PATHS,
)

ENTRIES = strategies.builds(
    lambda uuid, takings, spoiled: {
        **GOOD,
        'domain': {'name': 'web-1', 'uuid': uuid},
        'takings': takings,
        **spoiled,
    },
    UUIDS,
    strategies.lists(TAKINGS, max_size=3),
    strategies.just({}) | SPOILED,
)

FORMER_ENTRIES = strategies.builds(
    lambda uuid, draft, directories, spoiled: {
        **FORMER,
        'definition': {**FORMER['definition'], 'uuid': uuid},
        'draft': draft,
        'directories': directories,
        **spoiled,
    },
    UUIDS,
    strategies.none() | PATHS,
    strategies.lists(PATHS, max_size=3),
    strategies.just({}) | SPOILED,
)


class AnyEntryTest(testtools.TestCase):
    """Root recovers what the owner of the state directory has written."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != private_files.ROOT:
            self.skipTest('only root could remove what belongs to other users')
        self.useFixture(fixtures.FakeLogger())
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        # No path is relative, unless the driver takes one for it.
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.root)
        self.precious = self.root / 'precious'
        for name in PRECIOUS:
            path = self.precious / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(name)

    def tree(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.precious)): path.read_text()
            for path in self.precious.rglob('*')
            if path.is_file()
        }

    @LOOK
    @hypothesis.given(ENTRIES | FORMER_ENTRIES)
    def test_recovered(self, entry: dict[str, Any]) -> None:
        self.recover(json.dumps(entry))
        self.assertEqual({name: name for name in PRECIOUS}, self.tree())

    @LOOK
    @hypothesis.given(strategies.binary() | JSON.map(json.dumps))
    def test_no_entry(self, content: bytes | str) -> None:
        self.recover(content)
        self.assertEqual({name: name for name in PRECIOUS}, self.tree())

    def recover(self, content: bytes | str) -> None:
        state = pathlib.Path(tempfile.mkdtemp(dir=self.root))
        self.addCleanup(shutil.rmtree, state)
        for uuid in (documents.UUID, '*', 'file'):
            path = state / f'{uuid}.json'
            if isinstance(content, str):
                path.write_text(
                    content.replace('{root}', str(self.precious)).replace(
                        '{state}', str(state)
                    )
                )
            else:
                path.write_bytes(content)
            os.chown(path, STRANGER, STRANGER)
        (state / 'link').symlink_to(self.precious)
        os.chown(state, STRANGER, STRANGER)
        configuration = conf.load(
            [],
            [
                ('snapshot', 'state_directory', str(state)),
                ('libvirt', 'snapshots_directory', str(self.root / 'none')),
            ],
        )
        journal = Journal(str(state))
        for found in journal.entries().found:
            dead_snapshot.forget_lost(
                found.uuid,
                found.name,
                journal,
                conf.read_settings(configuration).undo,
                None,
            )
