# SPDX-License-Identifier: Apache-2.0
"""The driver as nova-compute meets it: configured, installed, importable."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import sys
from collections.abc import Iterator

import nova_snapshot_driver
from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.interpreter import OPTION
from nova_snapshot_driver.cmd.check.interpreter import Failure
from nova_snapshot_driver.cmd.check.interpreter import Interpreter
from nova_snapshot_driver.cmd.check.interpreter import Interview
from nova_snapshot_driver.cmd.check.nova_user import NovaUser
from nova_snapshot_driver.common.cancellation import Cancellation

PROJECT = 'nova-snapshot-driver'

#: The oldest Nova that the driver is tested with.
LEAST_NOVA = 33

LIBNBD_MISSING = (
    'libnbd is missing. Images are written on this host before they are '
    'uploaded. Install the package python3-libnbd, for the Python that the '
    'driver runs on.'
)


def findings(
    python: str | None,
    wanted: bool,
    user: NovaUser,
    with_metrics: bool,
    cancellation: Cancellation,
) -> list[Finding]:
    """Whether nova-compute will find the driver, why not, and what to do.

    :param python: the interpreter that nova-compute runs on, if it is given
    :param wanted: somebody asks for it; nothing is wrong with a host
        that is to have the command line alone
    :param user: that nova-compute runs as
    :param with_metrics: ``[snapshot] metrics_file`` is set
    :returns: nothing where there is no Nova and no need of one
    """
    gravity = Verdict.FAILURE if wanted else Verdict.WARNING
    try:
        interpreter = Interpreter.find(python)
        interview = interpreter.ask(user, cancellation)
    except exception.Cancelled:
        raise
    except exception.SnapshotError as error:
        return [Finding('Nova', gravity, str(error))]
    deployment = Deployment(interpreter, interview, gravity)
    if deployment.has_nova:
        return [
            deployment.nova(),
            deployment.driver(),
            *deployment.libraries(with_metrics),
        ]
    return [deployment.nova()] if wanted or deployment.is_expected else []


def libnbd_of_another(path: str, tag: str) -> str:
    """The complaint about a libnbd that this Python can't load.

    :param path: of the extension
    :param tag: of the Python that looks for it
    """
    return (
        f'{path} is libnbd for another Python than {tag}, on which the driver '
        'runs. Images are written on this host before they are uploaded. '
        "Install the driver for the distribution's own Python, or build "
        'libnbd for this one.'
    )


class Deployment:
    """Nova and the driver, as nova-compute's interpreter sees them.

    :param gravity: the verdict on what keeps Nova from finding the driver
    """

    def __init__(
        self, interpreter: Interpreter, interview: Interview, gravity: Verdict
    ) -> None:
        self._interpreter = interpreter
        self._interview = interview
        self._gravity = gravity

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
                f'another Python. If that is what runs: {OPTION}'
            )
        return Finding('Nova', verdict, detail)

    def driver(self) -> Finding:
        """The verdict on whether Nova finds the driver, if there is a Nova."""
        trouble = self._why_no_driver()
        if trouble:
            return Finding('Driver', self._gravity, trouble)
        interview = self._interview
        version = interview.package_version
        detail = f'{version or "of no version"} in {interview.package}'
        own = importlib.metadata.version(PROJECT)
        if version not in (None, own):
            return Finding(
                'Driver',
                Verdict.WARNING,
                f'{detail}. This command is {own}, and tries something else '
                f'than nova-compute does. {self._install("--upgrade")}',
            )
        return Finding('Driver', Verdict.SUCCESS, detail)

    def libraries(self, with_metrics: bool) -> Iterator[Finding]:
        """The findings on what the driver needs where nova-compute runs.

        :param with_metrics: ``[snapshot] metrics_file`` is set
        """
        if not self._interview.is_driver:
            return
        yield from self._requirements()
        yield from self._libnbd()
        if with_metrics and not self._interview.has_metrics:
            yield Finding(
                'Driver: metrics',
                Verdict.FAILURE,
                'There are no metrics: prometheus_client is missing. '
                + self._install_library(
                    'prometheus-client', 'python3-prometheus-client'
                ),
            )

    def _requirements(self) -> Iterator[Finding]:
        subject, unmet = 'Driver: requirements', self._interview.unmet
        if self._interview.package_version is None:
            # A checkout in the path of Python says of no requirements.
            return
        if unmet is None:
            yield Finding(
                subject,
                Verdict.WARNING,
                f'{NOT_KNOWN} {self._interpreter.path} does not say which '
                'libraries the driver requires. Ask it: '
                + self._interpreter.pip('check'),
            )
        elif unmet:
            yield Finding(
                subject,
                Verdict.WARNING,
                f'{self._interpreter.path} lacks what the driver requires: '
                f'{", ".join(unmet)}. nova-compute can load the driver, and '
                f'some of it may fail. {self._install()}',
            )

    def _libnbd(self) -> Iterator[Finding]:
        """The finding on libnbd, unless this command can try it itself."""
        subject, libnbd = 'Driver: streams', self._interview.libnbd
        if self._interview.is_ours:
            return
        if libnbd is None:
            yield Finding(
                subject,
                Verdict.WARNING,
                f'{NOT_KNOWN} the driver there does not say whether it finds '
                f'libnbd. {self._install("--upgrade")}',
            )
        elif libnbd.other:
            yield Finding(
                subject,
                Verdict.WARNING,
                libnbd_of_another(libnbd.other, libnbd.tag),
            )
        elif not libnbd.is_available:
            yield Finding(subject, Verdict.WARNING, LIBNBD_MISSING)

    def _install_library(self, project: str, package: str) -> str:
        """The advice to install a library that a distribution has, too."""
        return (
            f'Install it there: {self._pip_install(project)}; for the '
            f"distribution's own Python it is the package {package}."
        )

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
                    f'nova-compute may read. {self._install_again()}'
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
        return (
            f'It is not installed where Nova is, in {interview.prefix}.{here} '
            f'{self._install()}{self._afterwards(interview.purelib)}'
        )

    def _not_beside_nova(self) -> str:
        """The complaint about a driver outside of the directory of Nova's."""
        interview = self._interview
        package = str(interview.package)
        detail = (
            f'It is installed in {package}, and Nova looks for drivers in '
            f'{interview.virt} alone.'
        )
        if not os.path.isdir(_shipped(package)):
            return (
                f'{package} holds no nova/virt/snapshot_driver. '
                f'{self._install_again()}'
            )
        if _is_checkout(package):
            return (
                f'{detail} An editable install by an old setuptools is not '
                'to be found there; one by a recent setuptools is: '
                + self._pip_install('--editable', package)
            )
        return f'{detail} Let it see this one: {self._link(package)}'

    def _why_not_imported(self, failure: Failure) -> str:
        detail = f'Its import fails: {failure}.'
        missing = failure.module
        if missing == 'libvirt':
            return (
                f'{detail} Install libvirt-python there: '
                f'{self._pip_install("libvirt-python")} (it is compiled, with '
                "libvirt's headers); for the distribution's own Python it is "
                'the package python3-libvirt.'
            )
        if missing and missing.split('.')[0] == 'nova_snapshot_driver':
            return f'{detail} {self._install_again()}'
        if missing and not missing.startswith('nova.'):
            return f'{detail} Install what it needs: {self._install()}'
        if self._is_old():
            return (
                f'{detail} Nova {self._interview.nova_version} is too old; '
                f'{LEAST_NOVA} is needed.'
            )
        return (
            f'{detail} Is the driver as recent as Nova? '
            f'{self._install("--upgrade")}'
        )

    def _install(self, *flags: str) -> str:
        return f'Install it there: {self._pip_install(*flags, _source())}'

    def _install_again(self) -> str:
        """The advice to install all of it again, readable for Nova's user.

        The umask of root may be a strict one.
        """
        command = self._pip_install(
            '--force-reinstall', '--no-deps', _source()
        )
        return f'Install it again, for all to read: umask 022; {command}'

    def _pip_install(self, *arguments: str) -> str:
        managed = (
            ['--break-system-packages']
            if self._interview.externally_managed
            else []
        )
        return self._interpreter.pip('install', *managed, *arguments)

    def _afterwards(self, site: str) -> str:
        """The command that is needed if pip installs apart from Nova."""
        if os.path.realpath(os.path.join(site, 'nova')) == os.path.realpath(
            str(self._interview.nova)
        ):
            return ''
        return f', and let Nova see it: {self._link(site)}'

    def _link(self, site: str) -> str:
        return shlex.join(
            ['ln', '-s', _shipped(site), f'{self._interview.virt}/']
        )


def _source() -> str:
    """The argument for pip: the project that this command comes from."""
    site = os.path.dirname(os.path.dirname(nova_snapshot_driver.__file__))
    return site if _is_checkout(site) else PROJECT


def _shipped(site: str) -> str:
    """The package that Nova has to find, in a directory of packages."""
    return os.path.join(site, 'nova', 'virt', 'snapshot_driver')


def _is_checkout(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, 'pyproject.toml'))
