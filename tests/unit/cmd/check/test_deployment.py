# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import os
import pathlib
import pwd
import shlex
import subprocess
import sys
import unittest
from importlib import metadata

import ddt
import fixtures
import testtools

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import deployment
from nova_snapshot_driver.cmd.check.deployment import Examination
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.interpreter import Interpreter
from nova_snapshot_driver.cmd.check.interpreter import Interview
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.common.cancellation import Cancellation
from tests.unit import tables
from tests.unit.cmd.nova_prefix import NovaPrefix
from tests.unit.cmd.nova_prefix import write

OURS = metadata.version('nova-snapshot-driver')
LIBVIRT = 'libvirt-python>=9.0.0; extra == "libvirt"'
CHECKOUT = str(pathlib.Path(__file__).parents[4])


class DeploymentCase(testtools.TestCase):
    with_metrics = False

    def setUp(self) -> None:
        super().setUp()
        self.prefix = self.useFixture(NovaPrefix())
        self.site = self.prefix.site
        self.user = NovaUser(os.geteuid(), os.getegid(), None)
        self.pip = f'{self.prefix.python} -m pip install'

    def examine(self, wanted: bool = True) -> Examination:
        return deployment.examine(
            self.prefix.python,
            wanted,
            self.user,
            self.with_metrics,
            Cancellation(),
        )

    def findings(self, wanted: bool = True) -> dict[str, Finding]:
        found = self.examine(wanted).findings
        return {finding.subject: finding for finding in found}

    def streams(self, wanted: bool = True) -> Finding:
        streams = self.examine(wanted).streams
        assert streams is not None
        return streams

    def assert_found(self) -> None:
        findings = self.findings()
        self.assertEqual(
            {'SUCCESS'}, {f.verdict for f in findings.values()}, str(findings)
        )
        self.assertEqual({'Nova', 'Driver'}, findings.keys())

    def assert_bad(self, subject: str, *details: str) -> str:
        finding = self.findings()[subject]
        self.assertEqual('FAILURE', finding.verdict, str(finding))
        for detail in details:
            self.assertIn(detail, finding.detail)
        return finding.detail

    def add_directory(self, name: str) -> pathlib.Path:
        """Add a directory to the path of modules."""
        directory = self.prefix.root / name
        directory.mkdir()
        self.prefix.add_path(directory)
        return directory


@ddt.ddt
class FoundTest(DeploymentCase):
    def setUp(self) -> None:
        super().setUp()
        self.prefix.add_nova()

    def test_beside_nova(self) -> None:
        self.prefix.add_driver(version=OURS)
        self.assert_found()
        findings = self.findings()
        self.assertIn('34.0.0', findings['Nova'].detail)
        self.assertIn(str(self.site / 'nova'), findings['Nova'].detail)
        self.assertIn(OURS, findings['Driver'].detail)

    def test_nothing_is_left_behind(self) -> None:
        """Bytecode of root's, for one."""
        self.prefix.add_driver()
        before = sorted(self.prefix.root.rglob('*'))
        self.assert_found()
        self.assertEqual(before, sorted(self.prefix.root.rglob('*')))

    def test_editable_install(self) -> None:
        """As a recent setuptools makes it of this project's pyproject.toml."""
        checkout = self.prefix.root / 'checkout'
        self.prefix.add_driver(checkout)
        write(checkout / 'pyproject.toml')
        for name in ('nova_snapshot_driver', 'nova/virt/snapshot_driver'):
            where = self.site / name
            write(
                self.site / f'{where.name}_finder.py',
                'import importlib.util, sys\n'
                'class Finder:\n'
                '    def find_spec(name, path=None, target=None):\n'
                f'        if name == {name.replace("/", ".")!r}:\n'
                '            return '
                'importlib.util.spec_from_file_location('
                f'name, {str(checkout / name / "__init__.py")!r})\n'
                'sys.meta_path.append(Finder)\n',
            )
            write(
                self.site / f'{where.name}.pth', f'import {where.name}_finder'
            )
        self.assert_found()

    def test_other_version(self) -> None:
        """The command line and nova-compute have different versions."""
        self.prefix.add_driver(version='0.0.0')
        finding = self.findings()['Driver']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('0.0.0', finding.detail)
        self.assertIn(f'{self.pip} --upgrade', finding.detail)

    def test_requirements(self) -> None:
        self.prefix.add_distribution('old', '1.0')
        self.prefix.add_distribution('new', '2.1')
        self.prefix.add_driver(
            version=OURS,
            requires=(
                'old>=2',
                'new>=2',
                'missing>=3',
                'elsewhere; python_version < "3"',
                'optional; extra == "nova"',
                'prometheus-client; extra == "metrics"',
            ),
        )
        finding = self.findings()['Driver: requirements']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn(
            'requires: old is 1.0 (>=2), missing is missing (>=3). ',
            finding.detail,
        )
        self.assertIn(f"{self.pip} 'old>=2' 'missing>=3'", finding.detail)

    def test_old_libvirt_python(self) -> None:
        self.prefix.add_distribution('libvirt-python', '8.0.0')
        self.prefix.add_driver(requires=(LIBVIRT,))
        finding = self.findings()['Driver: requirements']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('libvirt-python is 8.0.0 (>=9.0.0)', finding.detail)

    def test_no_libvirt_python(self) -> None:
        """Nova, and the driver, can be imported without it."""
        (self.site / 'libvirt.py').unlink()
        self.prefix.add_driver(requires=(LIBVIRT,))
        self.assert_bad('Driver: libvirt', f'{self.pip} libvirt-python')
        self.assertNotIn('Driver: requirements', self.findings())

    def test_checkout_that_is_not_installed(self) -> None:
        self.prefix.add_driver(version=None)
        finding = self.findings()['Driver']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('Not known:', finding.detail)
        self.assertIn(self.pip, finding.detail)

    def test_requirements_that_nobody_can_read(self) -> None:
        (self.site / 'packaging').unlink()
        self.prefix.add_driver(version=OURS)
        finding = self.findings()['Driver: requirements']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('Not known:', finding.detail)
        self.assertIn(f'{self.prefix.python} -m pip check', finding.detail)

    @tables.rows(
        {
            'missing': (
                *(False, None, 'pass'),
                'Install the package python3-libnbd',
            ),
            'another': (
                *(False, '/usr/x.so', 'pass'),
                '/usr/x.so is libnbd for another',
            ),
            'broken': (
                *(True, None, 'raise ImportError("no symbol")'),
                'no symbol',
            ),
        }
    )
    def test_libnbd(
        self, is_available: bool, other: str | None, load: str, detail: str
    ) -> None:
        self.prefix.add_driver()
        self.prefix.set_libnbd(is_available, other, load=load)
        streams = self.streams()
        self.assertEqual('WARNING', streams.verdict)
        for text in (detail, 'Images are written on', self.prefix.python):
            self.assertIn(text, streams.detail)

    def test_libnbd_is_there(self) -> None:
        self.prefix.add_driver()
        self.assertEqual('SUCCESS', self.streams().verdict)

    def test_driver_that_does_not_tell_of_libnbd(self) -> None:
        self.prefix.add_driver()
        module = 'nova_snapshot_driver/transfer/nbd/libnbd.py'
        (self.site / module).unlink()
        self.assertEqual('WARNING', self.streams().verdict)
        self.assertIn('Not known:', self.streams().detail)

    def test_libnbd_without_the_driver(self) -> None:
        """Nobody can tell where it is wanted, or has to elsewhere."""
        self.assertIn('Not known:', self.streams().detail)
        self.assertIsNone(self.examine(wanted=False).streams)

    def test_libnbd_is_tried_by_this_command(self) -> None:
        """The data plane of the command itself is the one of nova-compute."""
        self.prefix.add_driver()
        self.prefix.set_libnbd(is_available=False)
        self.useFixture(
            fixtures.MockPatchObject(sys, 'prefix', str(self.prefix.prefix))
        )
        self.assert_found()
        self.assertIsNone(self.examine().streams)

    def test_metrics(self) -> None:
        self.with_metrics = True
        self.prefix.add_driver(version=OURS)
        self.assert_bad(
            'Driver: metrics',
            f'{self.pip} prometheus-client',
            'python3-prometheus-client',
        )
        write(self.site / 'prometheus_client/__init__.py')
        self.assert_found()

    def test_old_metrics(self) -> None:
        write(self.site / 'prometheus_client/__init__.py')
        self.prefix.add_distribution('prometheus-client', '0.9')
        self.prefix.add_driver(
            requires=('prometheus-client>=0.16.0; extra == "metrics"',)
        )
        self.assert_found()
        self.with_metrics = True
        self.assert_bad(
            'Driver: metrics',
            'prometheus-client is 0.9 (>=0.16.0)',
            f"{self.pip} 'prometheus-client>=0.16.0'",
        )

    def test_seen_by_somebody_else(self) -> None:
        """Somebody who is neither root nor Nova's user can't be sure."""
        self.user = NovaUser(os.geteuid() + 1, 4242, '/var/lib/nova')
        self.useFixture(fixtures.MockPatch('os.geteuid', return_value=4242))
        self.assert_bad('Driver', 'Not known: this is what #4242 sees')
        self.prefix.add_driver()
        self.assert_found()

    def test_other_script(self) -> None:
        """Several scripts: the one that runs is not known."""
        self.prefix.add_driver()
        found = Interpreter(self.prefix.python, others=('/opt/nova-compute',))
        self.useFixture(
            fixtures.MockPatchObject(Interpreter, 'find', return_value=found)
        )
        finding = self.findings()['Nova']
        self.assertEqual('WARNING', finding.verdict)
        self.assertIn('/opt/nova-compute', finding.detail)
        self.assertIn('--nova-python', finding.detail)


@ddt.ddt
class NotFoundTest(DeploymentCase):
    def setUp(self) -> None:
        super().setUp()
        self.prefix.add_nova()

    def test_not_installed(self) -> None:
        self.assert_bad('Driver', f'{self.pip} {CHECKOUT}', sys.prefix)

    def test_nobody_wants_it(self) -> None:
        """The command line alone is to be had on this host."""
        verdicts = {
            name: finding.verdict
            for name, finding in self.findings(wanted=False).items()
        }
        self.assertEqual({'Nova': 'SUCCESS', 'Driver': 'WARNING'}, verdicts)

    def test_in_another_directory(self) -> None:
        """The distribution's is one, and pip's another: the link helps."""
        self.prefix.add_driver(self.add_directory('dist-packages'))
        detail = self.assert_bad('Driver', 'ln -s')
        _, _, command = detail.partition(': ')
        subprocess.run(shlex.split(command), check=True)
        self.assert_found()

    def test_nova_is_in_another_directory(self) -> None:
        """Nova lies outside of the directory that pip writes to."""
        os.rename(self.site / 'nova', self.prefix.root / 'nova')
        self.prefix.add_path(self.prefix.root)
        detail = self.assert_bad('Driver', self.pip, 'ln -s')
        _, _, command = detail.rpartition(': ')
        self.prefix.add_driver()
        subprocess.run(shlex.split(command), check=True)
        self.assert_found()

    def test_editable_install_of_an_old_setuptools(self) -> None:
        checkout = self.add_directory('checkout')
        self.prefix.add_driver(checkout)
        write(checkout / 'pyproject.toml')
        self.assert_bad('Driver', f'{self.pip} --editable {checkout}')

    def test_half_of_it(self) -> None:
        write(self.site / 'nova_snapshot_driver/__init__.py')
        self.assert_bad('Driver', f'umask 022; {self.pip} --force-reinstall')

    def test_other_half_of_it(self) -> None:
        self.prefix.add_driver()
        os.rename(self.site / 'nova_snapshot_driver', self.site / 'gone')
        self.assert_bad(
            'Driver', "No module named 'nova_snapshot_driver'", self.pip
        )

    def test_no_libvirt(self) -> None:
        (self.site / 'libvirt.py').unlink()
        self.prefix.add_driver(compute='import libvirt\n')
        self.assert_bad('Driver', f'{self.pip} libvirt-python')

    def test_missing_requirement(self) -> None:
        self.prefix.add_driver(compute='import tenacity.nap\n')
        self.assert_bad('Driver', "'tenacity'", f'{self.pip} {CHECKOUT}')

    @unittest.skipUnless(os.geteuid() == 0, 'only root can do that')
    def test_not_for_all_to_read(self) -> None:
        """Root has installed the driver under its own umask."""
        self.prefix.add_driver()
        self.assert_found()
        self.prefix.root.chmod(0o711)
        (self.site / 'nova_snapshot_driver').chmod(0o700)
        nobody = pwd.getpwnam('nobody')
        self.user = NovaUser(nobody.pw_uid, nobody.pw_gid, '/var/lib/nova')
        self.assert_bad('Driver', 'nova_snapshot_driver', 'umask 022')
        (self.site / 'nova/virt/snapshot_driver').chmod(0o700)
        self.assert_bad('Driver', 'may read', 'umask 022')

    @tables.rows(
        {
            'exception': ('1 / 0', 'ZeroDivisionError: division by zero'),
            'exit': ('raise SystemExit("no")', 'SystemExit: no'),
            'part_of_nova': ('import nova.virt.libvirt', 'nova.virt.libvirt'),
            'no_class': ('', "cannot import name 'LibvirtSnapshotDriver'"),
        }
    )
    def test_import_fails(self, compute: str, detail: str) -> None:
        self.prefix.add_driver(compute=f'{compute}\n')
        self.assert_bad('Driver', detail, '.py:1)', f'{self.pip} --upgrade')

    @tables.rows(
        {
            'class': ('class LibvirtSnapshotDriver:\n    pass\n',),
            'function': ('def LibvirtSnapshotDriver(virtapi):\n    pass\n',),
        }
    )
    def test_not_a_driver(self, door: str) -> None:
        self.prefix.add_driver(door=door)
        self.assert_bad('Driver', f'{self.pip} --force-reinstall')

    def test_python_of_the_distribution(self) -> None:
        ask = Interpreter.ask

        def managed(
            interpreter: Interpreter,
            user: NovaUser,
            cancellation: Cancellation,
        ) -> Interview:
            return dataclasses.replace(
                ask(interpreter, user, cancellation), externally_managed=True
            )

        self.useFixture(fixtures.MockPatchObject(Interpreter, 'ask', managed))
        self.assert_bad('Driver', f'{self.pip} --break-system-packages')


class OldNovaTest(DeploymentCase):
    def setUp(self) -> None:
        super().setUp()
        self.prefix.add_nova('32.1.0')

    def test_found(self) -> None:
        self.prefix.add_driver()
        findings = self.findings()
        self.assertEqual('SUCCESS', findings['Driver'].verdict)
        self.assertEqual('WARNING', findings['Nova'].verdict)
        self.assertIn('32.1.0', findings['Nova'].detail)

    def test_import_fails(self) -> None:
        self.prefix.add_driver(compute='from nova.virt import novelty\n')
        self.assert_bad('Driver', 'Nova 32.1.0 is too old')


class NoNovaTest(DeploymentCase):
    def test_not_there(self) -> None:
        self.assert_bad('Nova', f'{self.prefix.python} has no Nova')

    def test_driver_alone(self) -> None:
        """The driver's own directory ``nova`` is not Nova."""
        self.prefix.add_driver()
        self.assert_bad('Nova', 'has no Nova')

    def test_broken(self) -> None:
        self.prefix.add_nova()
        write(self.site / 'nova/virt/driver.py', 'import oslo_service\n')
        self.assert_bad(
            'Nova', "No module named 'oslo_service'", 'driver.py:1'
        )

    def test_package_of_that_name(self) -> None:
        write(self.site / 'nova/__init__.py')
        self.assert_bad('Nova', "is not OpenStack's", 'Move it')

    def test_package_of_another_project_hides_it(self) -> None:
        self.prefix.add_nova(site=self.add_directory('dist-packages'))
        write(self.site / 'nova/__init__.py')
        self.prefix.add_distribution(
            'nova-extras', '1.0', ['nova/__init__.py']
        )
        self.assert_bad(
            'Nova',
            'belongs to nova-extras',
            f'hides the one in {self.prefix.root / "dist-packages"}',
            f'{self.prefix.python} -m pip uninstall nova-extras',
        )

    def test_no_interpreter(self) -> None:
        os.unlink(self.prefix.python)
        self.assert_bad('Nova', 'cannot be run', '--nova-python')

    def test_nobody_wants_it(self) -> None:
        findings = self.findings(wanted=False)
        self.assertEqual(['WARNING'], [f.verdict for f in findings.values()])

    def test_cancelled(self) -> None:
        cancellation = Cancellation()
        cancellation.request('SIGINT')
        write(self.prefix.bin / 'slow', '#!/bin/sh\nexec sleep 60\n')
        (self.prefix.bin / 'slow').chmod(0o755)
        self.assertRaises(
            exception.Cancelled,
            deployment.examine,
            str(self.prefix.bin / 'slow'),
            True,
            self.user,
            self.with_metrics,
            cancellation,
        )


class AssumedTest(DeploymentCase):
    """Nothing says on which Python nova-compute runs, if it does."""

    def setUp(self) -> None:
        super().setUp()
        found = Interpreter(self.prefix.python, assumed=True)
        self.useFixture(
            fixtures.MockPatchObject(Interpreter, 'find', return_value=found)
        )

    def test_no_nova(self) -> None:
        self.assertEqual({}, self.findings(wanted=False))

    def test_no_nova_and_wanted(self) -> None:
        self.assert_bad('Nova', 'no nova-compute on PATH', '--nova-python')

    def test_nova(self) -> None:
        self.prefix.add_nova()
        self.prefix.add_driver()
        self.assert_found()
