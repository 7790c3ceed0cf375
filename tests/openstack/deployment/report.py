# SPDX-License-Identifier: Apache-2.0
"""The findings of ``nova-snapshot check``."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Self


@dataclasses.dataclass(frozen=True)
class Finding:
    subject: str
    verdict: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The exit status and the findings."""

    status: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, status: int, output: str, errors: str) -> Self:
        """
        :raises AssertionError: the output is no report
        """
        try:
            found = json.loads(output)
        except ValueError:
            raise AssertionError(f'no report: {output}{errors}') from None
        if isinstance(found, dict):
            error = found['error']
            refused = Finding(error['code'], 'ERROR', error['message'])
            return cls(status, (refused,))
        return cls(status, tuple(Finding(**each) for each in found))

    def about(self, subject: str, verdict: str, *words: str) -> str:
        """The detail of a finding.

        :raises AssertionError: none has that verdict and all these words
        """
        found = [each for each in self.findings if each.subject == subject]
        for each in found:
            if each.verdict == verdict and all(
                part in each.detail for part in words
            ):
                return each.detail
        raise AssertionError(
            f'no {verdict} of {subject} with {words}, but {found or self}'
        )

    def command(self, subject: str, verdict: str, pattern: str) -> str:
        """The command that is the remedy of a finding.

        :param pattern: a regular expression, whose group is the command
        """
        detail = self.about(subject, verdict)
        found = re.search(pattern, detail)
        if found is None:
            raise AssertionError(f'no {pattern} in: {detail}')
        return found[1]

    def of_verdict(self, *verdicts: str) -> set[str]:
        """The subjects of the findings with one of these verdicts."""
        return {
            each.subject for each in self.findings if each.verdict in verdicts
        }
