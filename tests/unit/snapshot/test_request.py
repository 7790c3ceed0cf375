# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any

import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.progress import silent
from nova_snapshot_driver.snapshot.destination.output_file import OutputFile
from nova_snapshot_driver.snapshot.plan.instance import Instance
from nova_snapshot_driver.snapshot.request import BEYOND_NOVA
from nova_snapshot_driver.snapshot.request import Request
from nova_snapshot_driver.snapshot.request import TaskStates

#: The fields that Nova's own driver heeds, or that change nothing about the
#: snapshot that it takes. A new field is here, or says what it asks for.
HEEDED_BY_NOVA = {
    'instance',
    'destination',
    'states',
    'progress',
    'cancellation',
    'context',
}

REFUSAL = exception.NotSupported(domain='a-guest', reason='No way.')


def request(**fields: Any) -> Request:
    return Request(
        Instance('a-guest'),
        OutputFile('a-guest', 'image'),
        TaskStates(lambda **_state: None),
        silent,
        Cancellation(),
        **fields,
    )


class WishesTest(testtools.TestCase):
    def refuse(self, wanted: Request) -> None:
        with wanted.refused_as_asked():
            raise REFUSAL

    def test_each_field_is_heeded_by_nova_or_a_wish(self) -> None:
        self.assertEqual(
            HEEDED_BY_NOVA,
            {
                field.name
                for field in dataclasses.fields(Request)
                if BEYOND_NOVA not in field.metadata
            },
        )

    def test_wish_that_nobody_has_is_none(self) -> None:
        """A wish is known by its default."""
        for field in dataclasses.fields(Request):
            if BEYOND_NOVA in field.metadata:
                self.assertIsNot(
                    dataclasses.MISSING, field.default, field.name
                )
        self.assertEqual([], request().wishes)

    def test_request_as_nova_makes_it(self) -> None:
        error = self.assertRaises(
            exception.NotSupported, self.refuse, request()
        )
        self.assertIs(REFUSAL, error)

    def test_request_with_a_wish(self) -> None:
        error = self.assertRaises(
            exception.RequestNotSupported,
            self.refuse,
            request(disks=('vda', 'vdb')),
        )
        self.assertIn('the disks vda, vdb', str(error))
        self.assertIn('No way.', str(error))
        self.assertNotIsInstance(error, exception.NotSupported)

    def test_another_error_passes(self) -> None:
        with (
            testtools.ExpectedException(exception.DomainBusy),
            request(disks=('vda',)).refused_as_asked(),
        ):
            raise exception.DomainBusy(domain='a-guest')
