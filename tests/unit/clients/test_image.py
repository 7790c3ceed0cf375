# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json

import ddt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.clients.access import GlanceAccess
from nova_snapshot_driver.clients.image import refusal
from tests.unit import tables


class AccessTest(testtools.TestCase):
    ACCESS = GlanceAccess(
        'https://glance.example.com:9292',
        token='t0ken',
        service_token='s3rvice',
        cacert='/ca.pem',
        certificate='/certificate.pem',
        key='/key.pem',
        insecure=True,
        timeout=7,
        global_request_id='req-1',
    )

    def test_tokens_are_not_shown(self) -> None:
        for token in ('t0ken', 's3rvice'):
            self.assertNotIn(token, repr(self.ACCESS))
            self.assertNotIn(token, f'{self.ACCESS}')

    def test_travels_as_a_dictionary(self) -> None:
        for field in dataclasses.fields(GlanceAccess):
            # A snapshot without its image would not be missed.
            self.assertNotEqual(
                field.default, getattr(self.ACCESS, field.name)
            )
        self.assertEqual(
            self.ACCESS,
            GlanceAccess(**json.loads(json.dumps(self.ACCESS.to_dict()))),
        )


@ddt.ddt
class RefusalTest(testtools.TestCase):
    @tables.rows(
        {
            '400': (400, exception.GlanceError),
            '401': (401, exception.GlanceError),
            '403': (403, exception.GlanceError),
            '404': (404, exception.ImageNotFound),
            '409': (409, exception.GlanceUnavailable),
            '410': (410, exception.ImageNotFound),
            '413': (413, exception.GlanceError),
            '500': (500, exception.GlanceUnavailable),
            '502': (502, exception.GlanceUnavailable),
            '503': (503, exception.GlanceUnavailable),
            # A proxy answers 504 when Glance was too slow.
            '504': (504, exception.GlanceUnavailable),
            'none': (None, exception.GlanceUnavailable),
        }
    )
    def test_status(
        self, status: int | None, expected: type[exception.GlanceError]
    ) -> None:
        self.assertIs(expected, refusal(status))
