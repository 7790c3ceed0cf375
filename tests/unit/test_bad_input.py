# SPDX-License-Identifier: Apache-2.0
"""Input from others: a good result or a clear error, nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from typing import Any
from xml.sax import saxutils

import fixtures
import hypothesis
import libvirt
import testtools
from hypothesis import strategies

from nova_snapshot_driver import conf
from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.glance import Glance
from nova_snapshot_driver.cmd import status as status_command
from nova_snapshot_driver.hypervisor import domain
from nova_snapshot_driver.hypervisor.domain import PowerState
from nova_snapshot_driver.hypervisor.guest import Definition
from nova_snapshot_driver.snapshot.capture.quiesce import Quiesce
from nova_snapshot_driver.snapshot.destination import metadata
from nova_snapshot_driver.snapshot.disk import disks_of
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.plan.instance import QuiescePolicy
from nova_snapshot_driver.snapshot.plan.model import Obstacles
from nova_snapshot_driver.snapshot.plan.planner import make_plan
from nova_snapshot_driver.state import status
from nova_snapshot_driver.state.journal import Journal
from nova_snapshot_driver.state.status import Status
from tests import exhaustive
from tests.faults import libvirt_error
from tests.unit import documents
from tests.unit.entries import taken
from tests.unit.fake_libvirt import FakeDomain
from tests.unit.host import FakeHost
from tests.unit.volumes_host import VolumesHost

FEW = hypothesis.settings(
    max_examples=exhaustive.examples(40), deadline=None, database=None
)

#: Text of a person or a program, control characters included.
TEXT = strategies.text(max_size=300)

#: Text of any length.
LONG = strategies.one_of(
    TEXT,
    strategies.builds(
        str.__mul__,
        strategies.text(min_size=1, max_size=3),
        strategies.sampled_from([256, 4097, 100_000]),
    ),
)

#: Text as in the XML of a domain, which has no control characters.
IN_XML = strategies.text(
    strategies.characters(
        min_codepoint=32,
        exclude_characters='\ufffe\uffff',
        exclude_categories=('Cs', 'Cc'),
    ),
    min_size=1,
    max_size=60,
)

JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | TEXT,
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)

BEGIN = Status(
    domain=documents.NAME,
    uuid=documents.UUID,
    images=(),
    files=('/image',),
    method='backup',
)

DEFINITION = Definition(
    documents.NAME, documents.UUID, documents.inactive(''), autostart=False
)

#: Nested more deeply than a parser goes.
DEEP = '[' * 5_000


def spoiled(good: dict[str, Any]) -> strategies.SearchStrategy[str]:
    """A document with a field of another kind, or one more, or one less."""

    def spoil(name: str, value: Any) -> str:
        return json.dumps({**good, name: value})

    def rob(name: str) -> str:
        return json.dumps({key: good[key] for key in good if key != name})

    names = strategies.sampled_from(sorted(good))
    return strategies.one_of(
        strategies.builds(spoil, names | TEXT, JSON),
        strategies.builds(rob, names),
        strategies.builds(json.dumps, JSON),
        TEXT,
        strategies.just(DEEP),
    )


class AgentTest(testtools.TestCase):
    """The agent is a program of the guest, and says what that wants."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())

    def quiesce(self, policy: QuiescePolicy) -> Quiesce:
        guest = self.host.guest()
        plan = make_plan(
            conf.plan_settings(self.host.conf),
            Instance(guest.name, quiesce=policy),
            guest.describe(),
            disks_of(guest.describe()),
            guest.power.state(),
            Obstacles(),
        )
        return Quiesce(guest, plan, 1, 1)

    @contextlib.contextmanager
    def answers(self, call: str, answer: Any) -> Any:
        def say(_domain: FakeDomain) -> Any:
            if isinstance(answer, str):
                raise libvirt_error(
                    libvirt.VIR_ERR_INTERNAL_ERROR,
                    f'guest agent command failed: {answer}',
                )
            return answer

        with fixtures.MockPatchObject(FakeDomain, call, say):
            yield

    @FEW
    @hypothesis.given(LONG)
    def test_error_of_any_kind(self, words: str) -> None:
        """The error stands in the log, and in the output of the command."""
        quiesce = self.quiesce(QuiescePolicy.AUTO)
        with self.answers('fsFreeze', words), quiesce.frozen():
            pass
        self.assertFalse(quiesce.done)
        told = str(quiesce.reason)
        self.assertTrue(told.isprintable())
        self.assertLess(len(told), 2 * exception.LONGEST_FIELD)
        self.assertFalse(self.host.machine.frozen)

    @FEW
    @hypothesis.given(LONG)
    def test_error_where_quiescing_is_required(self, words: str) -> None:
        quiesce = self.quiesce(QuiescePolicy.REQUIRE)
        with self.answers('fsFreeze', words):
            error = self.assertRaises(
                exception.QuiesceFailed, self.enter, quiesce
            )
        self.assertTrue(str(error).isprintable())
        json.dumps(error.to_dict()).encode()

    @staticmethod
    def enter(quiesce: Quiesce) -> None:
        with quiesce.frozen():
            pass

    @FEW
    @hypothesis.given(strategies.integers())
    def test_any_number_of_file_systems(self, number: int) -> None:
        quiesce = self.quiesce(QuiescePolicy.AUTO)
        with (
            self.answers('fsFreeze', number),
            self.answers('fsThaw', number),
            quiesce.frozen(),
        ):
            pass
        self.assertEqual(number > 0, quiesce.done)
        self.assertEqual(max(number, 0), quiesce.file_systems)

    def test_log_is_not_forged(self) -> None:
        """A guest can't forge a line of the log."""
        quiesce = self.quiesce(QuiescePolicy.AUTO)
        with (
            self.answers('fsFreeze', 'x\n2026-01-01 ERROR forged\x1b[2J'),
            quiesce.frozen(),
        ):
            pass
        self.assertIn('ERROR forged', self.host.log.output)
        self.assertNotIn('\n2026-01-01', self.host.log.output)
        self.assertNotIn('\x1b', self.host.log.output)


class MessageTest(testtools.TestCase):
    @FEW
    @hypothesis.given(LONG)
    def test_one_line(self, text: str) -> None:
        """A name, a path, or what a program says on its standard error."""
        error = exception.CommandFailed(
            command='qemu-img info', status=1, reason=text
        )
        self.assertTrue(str(error).isprintable())
        self.assertLess(len(str(error)), 2 * exception.LONGEST_FIELD)
        again = exception.from_dict(json.loads(json.dumps(error.to_dict())))
        self.assertEqual(str(error), str(again))
        self.assertEqual(error.fields, again.fields)

    def test_what_is_printable_stays(self) -> None:
        for reason in ('Größe', '名前', 'a  b', '{x}', "it's 100 %"):
            error = exception.SnapshotError(reason=reason)
            self.assertEqual(reason, str(error))


class StateTest(testtools.TestCase):
    """The files of the state directory, after whatever has befallen it."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        root = self.useFixture(fixtures.TempDir()).path
        self.directory = pathlib.Path(root)

    @FEW
    @hypothesis.given(strategies.binary(max_size=200))
    def test_status_of_any_bytes(self, content: bytes) -> None:
        path = self.directory / f'{documents.UUID}.status'
        path.write_bytes(content)
        self.assertEqual((), status.running(str(self.directory)).found)

    @FEW
    @hypothesis.given(spoiled({'version': 1, **dataclasses.asdict(BEGIN)}))
    def test_status_of_any_json(self, content: str) -> None:
        """Any JSON that is taken for a status can be shown."""
        path = self.directory / f'{documents.UUID}.status'
        path.write_text(content, errors='surrogatepass')
        with fixtures.MockPatch(
            'nova_snapshot_driver.state.locks.is_locked', return_value=True
        ):
            for found in status.running(str(self.directory)).found:
                status_command._in_words(found)
                json.dumps(dataclasses.asdict(found))

    @FEW
    @hypothesis.given(strategies.binary(max_size=200))
    def test_journal_of_any_bytes(self, content: bytes) -> None:
        journal = Journal(str(self.directory))
        path = self.directory / f'{documents.UUID}.json'
        path.write_bytes(content)
        self.assertIsNone(journal.recall(documents.UUID))
        # The file is set aside, and no later snapshot fails for it.
        self.assertFalse(path.exists())
        self.assertEqual((), journal.entries().found)

    @FEW
    @hypothesis.given(spoiled(json.loads(taken(DEFINITION).to_json())))
    def test_journal_of_any_json(self, content: str) -> None:
        journal = Journal(str(self.directory))
        path = self.directory / f'{documents.UUID}.json'
        path.write_text(content, errors='surrogatepass')
        entry = journal.recall(documents.UUID)
        self.assertEqual(entry is not None, path.exists())


class ImageTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(FakeHost())

    @FEW
    @hypothesis.given(
        strategies.dictionaries(TEXT, JSON, max_size=5),
        strategies.lists(TEXT, max_size=3),
    )
    def test_inherited(
        self, base: dict[str, Any], left_out: list[str]
    ) -> None:
        inherited = metadata.inherited(base, left_out)
        self.assertLessEqual(set(inherited), set(base))
        self.assertEqual(set(), set(inherited) & set(left_out))

    @FEW
    @hypothesis.given(TEXT, TEXT, JSON)
    def test_image_as_glance_shows_it(
        self, name: str, key: str, value: Any
    ) -> None:
        """Users have named the image, and have written what they like."""
        fields = {**self.host.glance.images[self.host.image]}
        glance = Glance(self.host.context.glance_access())
        image = self.host.glance.add(**{'x' + key: value, 'name': name})
        try:
            found = glance.get(image)
        except exception.SnapshotError as error:
            self.assertEqual('glance-error', error.code)
        else:
            self.assertEqual(name, found.name)
        finally:
            del self.host.glance.images[image]
        self.assertEqual(fields, self.host.glance.images[self.host.image])

    @FEW
    @hypothesis.given(TEXT)
    def test_id_that_is_none(self, image: str) -> None:
        glance = Glance(self.host.context.glance_access())
        hypothesis.assume(image not in self.host.glance.images)
        self.assertRaises(exception.SnapshotError, glance.get, image)


class VolumesTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = self.useFixture(VolumesHost(1))

    @hypothesis.settings(FEW, max_examples=15)
    @hypothesis.given(strategies.text(max_size=255))
    def test_snapshots_in_cinder_are_named_after_it(self, name: str) -> None:
        host = self.host
        before = host.before()
        host.image = host.glance.add(name=name)
        host.snapshot()
        self.assertEqual([], host.differences(before))
        host.cinder.snapshots.clear()


#: Sources as libvirt has them, by the type of the disk.
SOURCES = strategies.one_of(
    IN_XML.map(lambda path: ('file', f'<source file={_attribute(path)}/>')),
    IN_XML.map(lambda path: ('block', f'<source dev={_attribute(path)}/>')),
    strategies.builds(
        lambda protocol, name: (
            'network',
            f'<source protocol="{protocol}" name={_attribute(name)}>'
            '<host name="192.0.2.1"/></source>',
        ),
        strategies.sampled_from(['rbd', 'nbd', 'iscsi', 'https', 'gluster']),
        IN_XML,
    ),
    strategies.just(('volume', '<source pool="a" volume="b"/>')),
    strategies.just(('nvme', '<source type="pci" namespace="1"/>')),
    strategies.just(('vhostuser', '<source type="unix" path="/s"/>')),
    strategies.just(('dir', '<source dir="/d"/>')),
    strategies.just(('file', '')),
)


def _attribute(text: str) -> str:
    return saxutils.quoteattr(text)


@strategies.composite
def disks(draw: strategies.DrawFn) -> str:
    kind, source = draw(SOURCES)
    device = draw(strategies.sampled_from(['disk', 'cdrom', 'floppy', 'lun']))
    target = draw(strategies.sampled_from(['vda', 'vdb', 'sda', 'hdc']))
    more = draw(
        strategies.lists(
            strategies.sampled_from(
                [
                    '<serial>the same</serial>',
                    '<readonly/>',
                    '<transient/>',
                    '<backingStore/>',
                    '<backingStore type="file"><format type="raw"/>'
                    '<source file="/b,ase"/></backingStore>',
                    '<encryption format="luks"/>',
                    '<encryption format="qcow"><secret type="passphrase" '
                    'usage="x"/></encryption>',
                    '<mirror job="copy"/>',
                    '<driver name="qemu" type="qcow2"/>',
                    '<driver name="qemu"/>',
                    '<driver type="vhdx"/>',
                ]
            ),
            unique=True,
            max_size=4,
        )
    )
    return (
        f'<disk type="{kind}" device="{device}">{source}'
        f'<target dev="{target}"/>{"".join(more)}</disk>'
    )


class DomainTest(testtools.TestCase):
    @hypothesis.settings(FEW, max_examples=exhaustive.examples(200))
    @hypothesis.given(
        strategies.lists(disks(), max_size=3),
        strategies.sampled_from(PowerState),
        strategies.sampled_from(['auto', 'backup', 'mirror', 'cold']),
    )
    def test_disks(
        self, devices: list[str], state: PowerState, path: str
    ) -> None:
        """A plan has all that it needs, or is refused."""
        found = domain.parse(documents.inactive('\n'.join(devices)))
        configuration = conf.load([], [('snapshot', 'method', path)])
        try:
            plan = make_plan(
                conf.plan_settings(configuration),
                Instance(documents.NAME),
                found,
                disks_of(found),
                state,
                Obstacles(),
            )
        except exception.NotSupported as refusal:
            self.assertIn(documents.NAME, str(refusal))
            return
        [planned] = plan.disks
        self.assertTrue(planned.target)
        self.assertTrue(planned.source.path)
        self.assertIn(planned.disk, found.disks)

    def test_cdrom_comes_first(self) -> None:
        found = domain.parse(
            documents.inactive(
                documents.CDROM + documents.file_disk('/disk, the first')
            )
        )
        assert found.root_disk is not None
        self.assertEqual('/disk, the first', found.root_disk.path)
