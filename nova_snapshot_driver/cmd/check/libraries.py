# SPDX-License-Identifier: Apache-2.0
"""The libraries that the driver needs in nova-compute's own Python."""

from __future__ import annotations

from collections.abc import Iterator

from nova_snapshot_driver.cmd.check.finding import NOT_KNOWN
from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.check.interpreter import Interpreter
from nova_snapshot_driver.cmd.check.interpreter import Interview
from nova_snapshot_driver.cmd.check.interpreter import Unmet
from nova_snapshot_driver.cmd.check.remedies import Remedies

#: The subject of what libnbd is needed for.
STREAMS = 'Data plane: streams'

ON_THIS_HOST = 'Images are written on this host before they are uploaded.'

LIBNBD_MISSING = (
    f'libnbd is missing. {ON_THIS_HOST} Install the package python3-libnbd, '
    'for the Python that the driver runs on.'
)


def streams_not_known(subject: str) -> Finding:
    """
    :param subject: of the finding that says why
    """
    return Finding(
        STREAMS,
        Verdict.WARNING,
        f'{NOT_KNOWN} whether nova-compute finds libnbd, for the reason that '
        f'"{subject}" has. Mend that, and check again.',
    )


def libnbd_of_another(path: str, tag: str) -> str:
    """The complaint about a libnbd that this Python can't load.

    :param path: of the extension
    :param tag: of the Python that looks for it
    """
    return (
        f'{path} is libnbd for another Python than {tag}, on which the driver '
        f"runs. {ON_THIS_HOST} Install the driver for the distribution's own "
        'Python, or build libnbd for this one.'
    )


class Libraries:
    """The libraries beside a driver, as an interpreter has answered.

    :param gravity: the verdict on what keeps nova-compute from starting
    """

    def __init__(
        self,
        interpreter: Interpreter,
        interview: Interview,
        remedies: Remedies,
        gravity: Verdict,
    ) -> None:
        self._interpreter = interpreter
        self._interview = interview
        self._remedies = remedies
        self._gravity = gravity

    def findings(self, with_metrics: bool) -> Iterator[Finding]:
        """The findings on what the driver needs where nova-compute runs.

        :param with_metrics: ``[snapshot] metrics_file`` is set
        """
        interview = self._interview
        # The finding on the driver says what is in the way.
        if not interview.is_driver or interview.package_version is None:
            return
        if not interview.has_libvirt:
            yield Finding(
                'Driver: libvirt',
                self._gravity,
                'libvirt-python is missing, without which nova-compute does '
                f'not start. {self._remedies.install_libvirt()}',
            )
        if interview.unmet is None:
            yield Finding(
                'Driver: requirements',
                Verdict.WARNING,
                f'{NOT_KNOWN} {self._interpreter.path} does not say which '
                'libraries the driver requires. Ask it: '
                + self._interpreter.pip('check'),
            )
        else:
            yield from self._requirements(interview.unmet)
        if with_metrics:
            yield from self._metrics(interview.unmet or [])

    def _requirements(self, unmet: list[Unmet]) -> Iterator[Finding]:
        found = [
            each
            for each in unmet
            if each.extra == ''
            # A missing libvirt-python has a finding of its own.
            or (each.extra == 'libvirt' and each.version is not None)
        ]
        if found:
            yield Finding(
                'Driver: requirements',
                Verdict.WARNING,
                f'{self._interpreter.path} lacks what the driver requires: '
                f'{", ".join(map(str, found))}. nova-compute can load the '
                'driver, and some of it may fail. Install it there: '
                + self._remedies.pip_install(
                    *(each.requirement for each in found)
                ),
            )

    def _metrics(self, unmet: list[Unmet]) -> Iterator[Finding]:
        old = next((each for each in unmet if each.extra == 'metrics'), None)
        if not self._interview.has_metrics:
            lack = 'There are no metrics: prometheus_client is missing.'
        elif old is not None and old.version is not None:
            lack = f'There may be no metrics: {old}.'
        else:
            return
        yield Finding(
            'Driver: metrics',
            Verdict.FAILURE,
            f'{lack} Install it there: '
            + self._remedies.pip_install(
                old.requirement if old else 'prometheus-client'
            )
            + "; for the distribution's own Python it is the package "
            'python3-prometheus-client.',
        )

    def streams(self) -> Finding | None:
        """The finding on libnbd, unless this command can try it itself."""
        interview, libnbd = self._interview, self._interview.libnbd
        if interview.is_ours:
            return None
        if not interview.is_driver:
            is_wanted = self._gravity is Verdict.FAILURE
            return streams_not_known('Driver') if is_wanted else None
        if libnbd is None:
            return Finding(
                STREAMS,
                Verdict.WARNING,
                f'{NOT_KNOWN} the driver of nova-compute does not say whether '
                f'it finds libnbd. {self._remedies.install("--upgrade")}',
            )
        trouble = libnbd.failure and f'{libnbd.failure} {ON_THIS_HOST}'
        if libnbd.other:
            trouble = libnbd_of_another(libnbd.other, libnbd.tag)
        elif not libnbd.is_available:
            trouble = LIBNBD_MISSING
        if trouble:
            return Finding(
                STREAMS,
                Verdict.WARNING,
                f'{trouble} nova-compute runs on {self._interpreter.path}.',
            )
        return Finding(
            STREAMS,
            Verdict.SUCCESS,
            f'{self._interpreter.path}, on which nova-compute runs, loads '
            'libnbd',
        )
