# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import threading

import fixtures
import libvirt
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.common import background
from nova_snapshot_driver.common import undo
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.common.wait import Limit
from nova_snapshot_driver.hypervisor.libvirt_calls import Answerer
from nova_snapshot_driver.hypervisor.libvirt_objects import LibvirtObject
from nova_snapshot_driver.hypervisor.libvirt_objects import Patience
from nova_snapshot_driver.hypervisor.libvirt_objects import heeding
from nova_snapshot_driver.hypervisor.libvirt_objects import of_connection
from tests.unit import documents
from tests.unit.fake_libvirt import FakeConnection

#: The seconds after which the test itself is at fault.
TIMEOUT = 30

#: The patience with a domain, in seconds.
PATIENCE = 0.2


class LibvirtObjectCase(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.goes_on = threading.Event()
        self.addCleanup(self.answer_all)
        self.asked: list[str] = []
        connection = FakeConnection()
        connection.add(documents.inactive('')).start()
        self.domain = self.found(connection)

    def answer_all(self) -> None:
        """The next test has a domain of the same UUID."""
        self.goes_on.set()
        for answerer in Answerer:
            self.domain.correspondent.has_answered_within(answerer, TIMEOUT)

    def found(self, connection: FakeConnection) -> LibvirtObject:
        patience = Patience(PATIENCE, PATIENCE)
        domain = of_connection(connection, patience).lookupByName(
            documents.NAME
        )
        real = domain._real
        for name in ('jobInfo', 'suspend', 'abortJob', 'fsFreeze'):
            setattr(real, name, self.silent(name))
        found: LibvirtObject = domain
        return found

    def silent(self, name: str):  # type: ignore[no-untyped-def]
        def call() -> str:
            self.asked.append(name)
            self.goes_on.wait(TIMEOUT)
            return name

        return call

    def is_silent(self, name: str) -> exception.HypervisorSilent:
        error: exception.HypervisorSilent = self.assertRaises(
            exception.HypervisorSilent, getattr(self.domain, name)
        )
        return error


class LibvirtObjectTest(LibvirtObjectCase):
    def test_unknown_call(self) -> None:
        """A call without a bound can't be made."""
        self.assertRaises(AttributeError, getattr, self.domain, 'destroy')

    def test_it_says_what_is_not_answered(self) -> None:
        error = self.is_silent('suspend')
        self.assertEqual('suspend', error.fields['operation'])
        for words in (documents.NAME, 'QEMU', 'qemu_timeout', 'destroy'):
            self.assertIn(words, str(error))

    def test_no_second_call_is_made(self) -> None:
        self.is_silent('suspend')
        threads = threading.active_count()
        for _ in range(5):
            self.assertEqual(
                'suspend', self.is_silent('jobInfo').fields['operation']
            )
        self.assertEqual(['suspend'], self.asked)
        self.assertEqual(threads, threading.active_count())

    def test_what_ends_a_job_is_told_beside(self) -> None:
        self.is_silent('suspend')
        self.is_silent('abortJob')
        self.is_silent('fsFreeze')
        self.assertEqual(['suspend', 'abortJob', 'fsFreeze'], self.asked)

    def test_it_goes_on(self) -> None:
        self.is_silent('suspend')
        self.goes_on.set()
        self.assertTrue(
            self.domain.correspondent.has_answered_within(
                Answerer.QEMU, TIMEOUT
            )
        )
        self.assertEqual('jobInfo', self.domain.jobInfo())

    def test_next_call_waits_for_what_is_left(self) -> None:
        first = background.call(self.domain.within(Limit(TIMEOUT)).suspend)
        while not self.asked:
            pass
        second = background.call(self.domain.within(Limit(TIMEOUT)).jobInfo)
        self.assertIsInstance(
            second.exception(TIMEOUT), exception.HypervisorSilent
        )
        self.assertFalse(first.done())

    def test_undo_does_not_believe_what_may_change(self) -> None:
        self.is_silent('suspend')
        self.assertEqual(1, self.domain.isActive())
        with undo.under_way():
            self.is_silent('isActive')
            self.assertEqual(1, self.domain.as_it_is().isActive())
            # The version of libvirt is the same whatever becomes of a domain.
            self.domain.connect().getLibVersion()

    def test_undo_believes_what_no_question_changes(self) -> None:
        self.is_silent('jobInfo')
        with undo.under_way():
            self.assertEqual(1, self.domain.isActive())

    def test_cancelled(self) -> None:
        cancellation = Cancellation()
        cancellation.request('SIGINT')
        with heeding(self.domain.correspondent, cancellation):
            self.assertRaises(
                exception.Cancelled, self.domain.within(Limit(TIMEOUT)).suspend
            )
            with undo.under_way():
                self.is_silent('suspend')


class DebugTest(LibvirtObjectCase):
    def setUp(self) -> None:
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))

    def line(self, words: str) -> None:
        """See that one line begins with words, and ends with a duration."""
        self.assertRegex(
            self.log.output,
            rf'(?m)^Domain {documents.NAME}: libvirt: {words} '
            r'\(\d+\.\d{3} s\)$',
        )

    def test_answer(self) -> None:
        self.domain.isActive()
        self.line('isActive: 1')

    def test_numbers(self) -> None:
        self.domain.state()
        self.line(r'state: [\[(]\d+, \d+[\])]')

    def test_document_is_not_shown(self) -> None:
        xml = self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        self.assertIn('s3cret', xml)
        self.line('XMLDesc: str')
        self.assertNotIn('s3cret', self.log.output)

    def test_secret_is_not_shown(self) -> None:
        secret = self.domain.connect().secretLookupByUUIDString('1')
        self.assertEqual(b's3cret', secret.value())
        self.line('value: bytes')
        self.assertNotIn('s3cret', self.log.output)

    def test_arguments_are_not_shown(self) -> None:
        xml = documents.inactive('')
        self.assertIn('s3cret', xml)
        self.domain.connect().defineXML(xml)
        self.line('defineXML: FakeDomain')
        self.assertNotIn('s3cret', self.log.output)

    def test_refusal(self) -> None:
        self.assertRaises(libvirt.libvirtError, self.domain.backupGetXMLDesc)
        self.line('backupGetXMLDesc: libvirtError: .+')

    def test_silence(self) -> None:
        self.is_silent('suspend')
        self.line('suspend: HypervisorSilent: .+')

    def test_call_that_somebody_else_waits_for(self) -> None:
        self.domain.begun('jobInfo')
        self.assertNotIn('jobInfo:', self.log.output)
        self.answer_all()
        self.line('jobInfo: str')
