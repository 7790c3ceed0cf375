# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ddt
import testtools

from nova_snapshot_driver.common import reason
from tests.unit import tables

#: As a proxy says it.
PAGE = """\
<!DOCTYPE html>
<html>
 <head><title>502 Bad Gateway</title>
  <style>body { color: red; }</style></head>
 <body>
  <!-- padding for a browser -->
  <center><h1>502 Bad Gateway</h1></center>
  <hr>nginx &amp; friends<script>alert("x")</script>
 </body>
</html>"""

#: As jsonschema says it.
SCHEMA = """\
'nnn' is too long

Failed validating 'maxLength' in schema['properties']['name']:
    {'description': 'Descriptive name for the image',
     'maxLength': 255}"""


class Broken(Exception):
    def __str__(self) -> str:
        raise TypeError('not a string')


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def circle() -> Exception:
    one, two = ValueError('one'), ValueError('two')
    one.__cause__, two.__cause__ = two, one
    return one


@ddt.ddt
class ReasonTest(testtools.TestCase):
    @tables.rows(
        {
            'text': (ValueError('no such host'), 'no such host'),
            'nothing': (Exception(), 'Exception'),
            'spaces': (Exception(' \n'), 'Exception'),
            'lines': (Exception('one\n  two\ttwo'), 'one two two'),
            'paragraphs': (Exception(SCHEMA), "'nnn' is too long"),
            'control': (Exception('a\x1b[31mb\x00'), 'a [31mb'),
            'page': (
                Exception(PAGE),
                '502 Bad Gateway nginx & friends',
            ),
            'page_of_a_title': (
                Exception('<html><head><title>Moved</title></head></html>'),
                'Moved',
            ),
            'entities': (
                Exception('Name can&#x27;t contain'),
                "Name can't contain",
            ),
            'brackets': (
                Exception('no <Connection> to a<b'),
                'no <Connection> to a<b',
            ),
            'key': (KeyError('image'), "KeyError: 'image'"),
            'attribute': (
                AttributeError("no attribute 'pop'"),
                "AttributeError: no attribute 'pop'",
            ),
            'system': (
                OSError(36, 'File name too long', '/x'),
                "[Errno 36] File name too long: '/x'",
            ),
            'no_words_of_its_own': (Broken(), 'Broken'),
            'cause': (
                caused(Exception('It failed.'), OSError(5, 'broken')),
                'It failed: [Errno 5] broken',
            ),
            'cause_that_is_told': (
                caused(Exception('It failed: broken'), Exception('broken')),
                'It failed: broken',
            ),
            'circle': (circle(), 'one: two'),
        }
    )
    def test_one_line(self, error: Exception, said: str) -> None:
        self.assertEqual(said, reason.of(error))

    def test_bound(self) -> None:
        said = reason.of(ValueError('x' * 10_000))
        self.assertEqual(reason.LONGEST, len(said))
        self.assertTrue(said.endswith('…'))

    def test_secret(self) -> None:
        said = reason.of(ValueError("header value: 't0ken'"), ('t0ken', None))
        self.assertEqual("header value: '***'", said)

    def test_named(self) -> None:
        self.assertEqual('ValueError: x', reason.named(ValueError('x')))
        self.assertEqual("KeyError: 'x'", reason.named(KeyError('x')))
        self.assertEqual('ValueError', reason.named(ValueError()))
