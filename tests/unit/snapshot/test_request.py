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

#: The optional fields that change nothing about the snapshot that is taken.
HARMLESS = {'context'}

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

    def test_each_optional_field_says_whether_nova_would_pass_over_it(
        self,
    ) -> None:
        optional = {
            field.name: field.metadata
            for field in dataclasses.fields(Request)
            if field.default is not dataclasses.MISSING
        }
        self.assertEqual(
            HARMLESS,
            {
                name
                for name, metadata in optional.items()
                if BEYOND_NOVA not in metadata
            },
        )

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
