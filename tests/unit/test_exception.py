# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import collections
import json
import pickle
import string

import ddt
import testtools

from nova_snapshot_driver import exception
from tests.unit import tables


def classes(
    root: type[exception.SnapshotError] = exception.SnapshotError,
) -> list[type[exception.SnapshotError]]:
    """Every error there is."""
    found = [root]
    for subclass in root.__subclasses__():
        found.extend(classes(subclass))
    return found


def fields(error: type[exception.SnapshotError]) -> dict[str, str]:
    """Values for all that a template names."""
    return {
        name: f'the {name}'
        for _text, name, _spec, _conversion in string.Formatter().parse(
            error.template
        )
        if name
    }


EVERY = {error.__name__: (error,) for error in classes()}


@ddt.ddt
class EveryErrorTest(testtools.TestCase):
    @tables.rows(EVERY)
    def test_message_has_all_fields(
        self, error: type[exception.SnapshotError]
    ) -> None:
        given = fields(error)
        message = str(error(**given))
        for value in given.values():
            self.assertIn(value, message)
        self.assertNotIn('{', message)

    @tables.rows(EVERY)
    def test_field_is_missing(
        self, error: type[exception.SnapshotError]
    ) -> None:
        given = fields(error)
        given.popitem()
        self.assertRaises(KeyError, error, **given)

    @tables.rows(EVERY)
    def test_travels_between_processes(
        self, error: type[exception.SnapshotError]
    ) -> None:
        sent = error(**fields(error), more=1)
        received = exception.from_dict(json.loads(json.dumps(sent.to_dict())))
        self.assertIs(error, type(received))
        self.assertEqual(str(sent), str(received))
        self.assertEqual(sent.fields, received.fields)

    @tables.rows(EVERY)
    def test_pickled(self, error: type[exception.SnapshotError]) -> None:
        sent = error(**fields(error))
        received = pickle.loads(pickle.dumps(sent))
        self.assertIs(error, type(received))
        self.assertEqual(sent.to_dict(), received.to_dict())

    @tables.rows(EVERY)
    def test_code(self, error: type[exception.SnapshotError]) -> None:
        """Scripts rely on the code: it is made of words, and unique."""
        self.assertRegex(error.code, r'^[a-z]+(-[a-z]+)+$|^cancelled$')
        self.assertIn('code', vars(error))


class CodesTest(testtools.TestCase):
    def test_unique(self) -> None:
        codes = collections.Counter(error.code for error in classes())
        self.assertEqual(
            [], [code for code, uses in codes.items() if uses > 1]
        )

    def test_dictionary(self) -> None:
        error = exception.DomainBusy(domain='web-1')
        self.assertEqual(
            {
                'code': 'domain-busy',
                'message': 'Domain web-1 is being snapshotted already. Wait '
                'until that has ended, or cancel it.',
                'fields': {'domain': 'web-1'},
            },
            error.to_dict(),
        )

    def test_value_that_looks_like_a_template(self) -> None:
        error = exception.HypervisorError(
            domain='{x}', operation='{}', reason='{0!r}'
        )
        self.assertEqual('Domain {x}: {} failed: {0!r}', str(error))
