# SPDX-License-Identifier: Apache-2.0
"""The driver as nova-compute meets it: configured, installed, importable."""

from __future__ import annotations

import dataclasses
import os
import sys

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import libraries
from nova_snapshot_driver.cmd.check import remedies
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.interpreter import OPTION
from nova_snapshot_driver.cmd.check.interpreter import Failure
from nova_snapshot_driver.cmd.check.interpreter import Interpreter
from nova_snapshot_driver.cmd.check.interpreter import Interview
from nova_snapshot_driver.cmd.check.libraries import Libraries
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.cmd.check.remedies import Remedies
from nova_snapshot_driver.common import version
from nova_snapshot_driver.common.cancellation import Cancellation
from nova_snapshot_driver.state.reach import user_name

#: The oldest Nova that the driver is tested with.
LEAST_NOVA = 33


@dataclasses.dataclass(frozen=True)
class Examination:
    """The findings on the Python of nova-compute.

    :ivar findings: nothing where there is no Nova and no need of one
    :ivar streams: whether the driver finds libnbd there; None where this
        command runs on that Python itself, or no driver is wanted there
    """

    findings: list[Finding]
    streams: Finding | None = None


def examine(
    python: str | None,
    wanted: bool,
    user: NovaUser,
    with_metrics: bool,
    cancellation: Cancellation,
) -> Examination:
    """Whether nova-compute will find the driver, why not, and what to do.

    :param python: the interpreter that nova-compute runs on, if it is given
    :param wanted: somebody asks for it; nothing is wrong with a host
        that is to have the command line alone
    :param user: that nova-compute runs as
    :param with_metrics: ``[snapshot] metrics_file`` is set
    """
    gravity = Verdict.FAILURE if wanted else Verdict.WARNING
    try:
        interpreter = Interpreter.find(python)
        interview = interpreter.ask(user, cancellation)
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        return Examination(
            [Finding('Nova', gravity, str(error))],
            libraries.streams_not_known('Nova') if wanted else None,
        )
    deployment = Deployment(interpreter, interview, gravity)
    if deployment.has_nova:
        findings = [
            deployment.nova(),
            deployment.driver(),
            *deployment.libraries.findings(with_metrics),
        ]
        streams = deployment.libraries.streams()
        return Examination(
            [_as_seen(found, user) for found in findings],
            streams and _as_seen(streams, user),
        )
    if wanted or deployment.is_expected:
        return Examination(
            [_as_seen(deployment.nova(), user)],
            libraries.streams_not_known('Nova') if wanted else None,
        )
    return Examination([])


def _as_seen(finding: Finding, user: NovaUser) -> Finding:
    """A finding, of which nobody knows whether the user would see it too."""
    if finding.verdict is Verdict.SUCCESS or not user.is_out_of_reach:
        return finding
    return dataclasses.replace(
        finding,
        detail=f'{NOT_KNOWN} this is what {user_name(os.geteuid())} sees, and '
        f'not {user.name}. {finding.detail}',
    )


class Deployment:
    """Nova and the driver, as nova-compute's interpreter sees them.

    :param gravity: the verdict on what keeps Nova from finding the driver
    :ivar libraries: what the driver needs beside Nova
    """

    def __init__(
        self, interpreter: Interpreter, interview: Interview, gravity: Verdict
    ) -> None:
        self._interpreter = interpreter
        self._interview = interview
        self._gravity = gravity
        self._remedies = Remedies(interpreter, interview)
        self.libraries = Libraries(
            interpreter, interview, self._remedies, gravity
        )

    @property
    def is_expected(self) -> bool:
        """Whether anything suggests that this host runs Nova."""
        return (
            not self._interpreter.assumed or self._interview.nova is not None
        )

    @property
    def has_nova(self) -> bool:
        return self._interview.virt is not None

    def nova(self) -> Finding:
        if not self.has_nova:
            return Finding('Nova', self._gravity, self._why_no_nova())
        verdict, detail = Verdict.SUCCESS, self._where_nova_is()
        if self._is_old():
            verdict = Verdict.WARNING
            detail += (
                f' The driver is made for {LEAST_NOVA} and later, and was '
                'not tried with this one.'
            )
        if self._interpreter.others:
            verdict = Verdict.WARNING
            detail += (
                f' There is {" and ".join(self._interpreter.others)} too, on '
                'another Python, or on one that it does not name. If that is '
                f'what runs: {OPTION}'
            )
        return Finding('Nova', verdict, detail)

    def driver(self) -> Finding:
        """The verdict on whether Nova finds the driver, if there is a Nova."""
        trouble = self._why_no_driver()
        if trouble:
            return Finding('Driver', self._gravity, trouble)
        interview = self._interview
        installed = interview.package_version
        detail = f'{installed} in {interview.package}'
        own = version.installed()
        if installed is None:
            return Finding(
                'Driver',
                Verdict.WARNING,
                f'{NOT_KNOWN} the driver is in {interview.package}, and '
                'nothing there says its version or what it requires. '
                + self._remedies.install(),
            )
        if installed != own:
            return Finding(
                'Driver',
                Verdict.WARNING,
                f'{detail}. This command is {own}, and tries something else '
                'than nova-compute does. '
                + self._remedies.install('--upgrade'),
            )
        return Finding('Driver', Verdict.SUCCESS, detail)

    def _where_nova_is(self) -> str:
        interview = self._interview
        script = self._interpreter.script
        runs = f' ({script})' if script else ''
        return (
            f'{interview.nova_version or "of an unknown version"} in '
            f'{interview.nova}, on {self._interpreter.path}{runs}.'
        )

    def _is_old(self) -> bool:
        major = (self._interview.nova_version or '').split('.')[0]
        return major.isdecimal() and int(major) < LEAST_NOVA

    def _why_no_nova(self) -> str:
        interview, path = self._interview, self._interpreter.path
        if not self.is_expected:
            return (
                'The driver is asked for, and there is no Nova to be '
                'found: no nova-compute on PATH, beside this command or in '
                f'/usr/bin, and no Nova in {interview.prefix}. {OPTION}'
            )
        if interview.nova is None:
            return f'{path} has no Nova. {OPTION}'
        failure = interview.nova_failure
        if failure and failure.module in ('nova.virt', 'nova.virt.driver'):
            return self._not_nova()
        return f'It cannot be imported on {path}: {failure}. Mend that first.'

    def _not_nova(self) -> str:
        """The complaint about a package ``nova`` that is somebody else's."""
        interview = self._interview
        owners = interview.owners
        owned = f', which belongs to {", ".join(owners)},' if owners else ''
        hides = (
            f' and hides the one in {", ".join(interview.hidden)}'
            if interview.hidden
            else ''
        )
        remedy = (
            f'Remove it, and install Nova again if it was overwritten: '
            f'{self._interpreter.pip("uninstall", *owners)}'
            if owners
            else 'Move it out of the way.'
        )
        return (
            f"{interview.nova}{owned} is not OpenStack's Nova{hides}. {remedy}"
        )

    def _why_no_driver(self) -> str | None:
        interview = self._interview
        if interview.visible:
            if interview.driver_failure:
                return self._why_not_imported(interview.driver_failure)
            if not interview.is_driver:
                return (
                    'nova.virt.snapshot_driver holds no driver that '
                    f'nova-compute may read. {self._remedies.install_again()}'
                )
            return None
        if interview.package is None:
            return self._not_installed()
        return self._not_beside_nova()

    def _not_installed(self) -> str:
        interview = self._interview
        here = (
            ''
            if interview.prefix == sys.prefix
            else f' This command runs in {sys.prefix}.'
        )
        remedy = self._remedies.install() + self._remedies.afterwards(
            interview.purelib
        )
        return (
            f'It is not installed where Nova is, in {interview.prefix}.{here} '
            f'{remedy}'
        )

    def _not_beside_nova(self) -> str:
        """The complaint about a driver outside of the directory of Nova's."""
        interview = self._interview
        package = str(interview.package)
        detail = (
            f'It is installed in {package}, and Nova looks for drivers in '
            f'{interview.virt} alone.'
        )
        if not os.path.isdir(remedies.shipped(package)):
            return (
                f'{package} holds no nova/virt/snapshot_driver. '
                f'{self._remedies.install_again()}'
            )
        if remedies.is_checkout(package):
            return (
                f'{detail} An editable install by an old setuptools is not '
                'to be found there; one by a recent setuptools is: '
                + self._remedies.pip_install('--editable', package)
            )
        return f'{detail} Let it see this one: {self._remedies.link(package)}'

    def _why_not_imported(self, failure: Failure) -> str:
        detail = f'Its import fails: {failure}.'
        missing = failure.module
        if missing == 'libvirt':
            return f'{detail} {self._remedies.install_libvirt()}'
        if missing and missing.split('.')[0] == 'nova_snapshot_driver':
            return f'{detail} {self._remedies.install_again()}'
        if missing and not missing.startswith('nova.'):
            remedy = self._remedies.install()
            return f'{detail} Install what it needs: {remedy}'
        if self._is_old():
            return (
                f'{detail} Nova {self._interview.nova_version} is too old; '
                f'{LEAST_NOVA} is needed.'
            )
        return (
            f'{detail} Is the driver as recent as Nova? '
            f'{self._remedies.install("--upgrade")}'
        )
