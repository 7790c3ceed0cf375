# SPDX-License-Identifier: Apache-2.0
"""The findings of a check, as people or machines read them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from nova_snapshot_driver.cmd.check.finding import Finding
from nova_snapshot_driver.cmd.check.finding import Verdict
from nova_snapshot_driver.cmd.shared import output


def show(findings: Sequence[Finding], word: str, form: str) -> None:
    """Print the findings, and for people the verdict on all of them.

    :param word: that the verdict begins with
    :param form: ``table`` or ``json``
    """
    if form == 'json':
        output.print_json([dataclasses.asdict(found) for found in findings])
        return
    output.print_verdicts(
        [(found.subject, found.verdict, found.detail) for found in findings],
        _verdict(findings, word),
    )


def _verdict(findings: Sequence[Finding], word: str) -> str:
    """All verdicts in one line, such as ``Ready: 2 warnings``."""
    counts = collections.Counter(found.verdict for found in findings)
    counted = [
        f'{counts[verdict]} {verdict.lower()}{"s"[: counts[verdict] != 1]}'
        for verdict in (Verdict.FAILURE, Verdict.WARNING)
        if counts[verdict]
    ]
    return f'{word}: {", ".join(counted) or "no warnings"}'
