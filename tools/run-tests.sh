#!/usr/bin/env bash
# Runs suites of tests, all of them whatever becomes of the first, and ends
# with one line of totals:
#
#   tools/run-tests.sh unit functional
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PWD/.venv/bin:$PATH
# What a test logs and prints is shown where it fails. No test takes longer.
export OS_STDOUT_CAPTURE=1 OS_STDERR_CAPTURE=1 OS_LOG_CAPTURE=1
export OS_TEST_TIMEOUT=600
# The libvirt inside of a test says its errors to the test.
export LIBVIRT_DEBUG=4
results=.lab/results
# A suite that can't be loaded leaves no result, and must not find an old one.
rm -rf "$results"

status=0
streams=()
for suite in "$@"; do
    options=()
    # A guest without KVM keeps a core busy.
    [ "$suite" != functional ] || options=(--concurrency 2)
    stestr=(stestr --test-path "./tests/$suite" --repo-url "$results/$suite")

    mkdir -p "$results/$suite"
    printf '\n== %s tests\n' "$suite"
    "${stestr[@]}" run "${options[@]}" || status=1
    "${stestr[@]}" last --subunit >"$results/$suite.subunit" || status=1
    streams+=("$results/$suite.subunit")
done

echo
python tools/test_totals.py "${streams[@]}" || status=1
exit "$status"
