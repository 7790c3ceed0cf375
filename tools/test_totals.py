# SPDX-License-Identifier: Apache-2.0
"""Adds up suites of tests and ends with the line ``N passed, ...``.

Before it, it names what has failed, and the error: the tails of logs that a
test shows may be all that is left of what was printed. The arguments are files
of subunit, one for each suite. Whatever is not known to have gone well counts
as failed: an unexpected success, a test that never ended, and a suite without
any test, as it is when it can't be imported.
"""

import collections
import pathlib
import re
import sys
import textwrap

import subunit
import testtools
from testtools.testresult.real import TestDict

_MEANINGS = {
    'success': 'passed',
    'xfail': 'passed',
    'skip': 'skipped',
}

#: The most characters of an error that are shown.
LONGEST = 600

_TRACEBACK = 'Traceback (most recent call last):\n'

# The error itself: from its first line without indentation to the end.
_ERROR = re.compile(r'^\S.*', re.MULTILINE | re.DOTALL)


def count(stream: pathlib.Path) -> collections.Counter[str]:
    """The outcomes of one suite; those of them that failed are printed."""
    outcomes: collections.Counter[str] = collections.Counter()

    def on_test(test: TestDict) -> None:
        outcome = _MEANINGS.get(test['status'], 'failed')
        outcomes[outcome] += 1
        if outcome == 'failed':
            print(f'{stream.stem}: {test["id"]}: {test["status"]}')
            for error in errors(test):
                print(textwrap.indent(error, '    '))

    result = testtools.StreamToDict(on_test)
    with stream.open('rb') as source:
        # stestr explains itself in plain text where it has no result.
        reader = subunit.ByteStreamToStreamResult(source, 'plain text')
        result.startTestRun()
        reader.run(result)
        # A test that has not ended by now is reported here.
        result.stopTestRun()
    if not outcomes:
        print(f'{stream.stem}: no test was run, which counts as a failure')
        outcomes['failed'] = 1
    return outcomes


def errors(test: TestDict) -> list[str]:
    """The errors that a test has raised, without their tracebacks."""
    found = []
    for name, detail in test['details'].items():
        if name.startswith('traceback'):
            _, _, last = detail.as_text().rpartition(_TRACEBACK)
            if match := _ERROR.search(last):
                found.append(match[0].strip()[:LONGEST])
    return found


def main() -> int:
    streams = [pathlib.Path(argument) for argument in sys.argv[1:]]
    total = sum(map(count, streams), collections.Counter())
    print(
        f'{total["passed"]} passed, {total["failed"]} failed, '
        f'{total["skipped"]} skipped'
    )
    return 1 if total['failed'] or not streams else 0


if __name__ == '__main__':
    sys.exit(main())
