#!/usr/bin/env bash
# Runs suites of tests, all of them whatever becomes of the first, and ends
# with one line of totals:
#
#   tools/run-tests.sh unit functional nova openstack-threading
#
# nova are the tests that need Nova, but no cloud. The ones in a cloud run with
# a nova-compute on native threads, or on eventlet (openstack-eventlet; those of
# them for which it matters: openstack-waits), and those in one with Ceph and
# Cinder on native threads (openstack-ceph). survive are all cases of the
# latter's tests of deaths, of which it has a few by lot.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PWD/.venv/bin:$PATH
# What a test logs and prints is shown where it fails. No test takes longer.
export OS_STDOUT_CAPTURE=1 OS_STDERR_CAPTURE=1 OS_LOG_CAPTURE=1
export OS_TEST_TIMEOUT=600
# The libvirt inside of a test says its errors to the test.
export LIBVIRT_DEBUG=4
# By which cases are drawn; others: NOVA_SNAPSHOT_SEED=$RANDOM.
export NOVA_SNAPSHOT_SEED=${NOVA_SNAPSHOT_SEED:-7}
# Whether others wait for a snapshot, what they hear of it, and who ends one.
waits='ServiceTest|ProgressTest|LiveTest|server_is_deleted|several_servers'
results=.lab/results
# A suite that can't be loaded leaves no result, and must not find an old one.
rm -rf "$results"

# The suites that are not simply the tests in the directory of their name, run
# with as many workers as there are cores.
run_suite() {
    local suite=$1 repository=$2
    case $suite in
        functional)
            # A guest without KVM keeps a core busy, but half of the time is
            # waiting: for agents that hang, for what times out.
            run_stestr functional "$repository" stestr --concurrency 3 ;;
        nova)
            # Where Nova is, and its own tests.
            OS_NOVA_DISABLE_EVENTLET_PATCHING=True run_stestr nova \
                "$repository" "$(python -m tests.lab cloud install)/bin/stestr"
            ;;
        openstack-ceph)
            surviving run_stestr openstack/ceph "$repository" stestr \
                --concurrency 1 ;;
        survive)
            # A test has all cases of a path.
            NOVA_SNAPSHOT_SURVIVAL=all OS_TEST_TIMEOUT=7200 \
                surviving run_stestr openstack/ceph/survival "$repository" \
                stestr --concurrency 1 ;;
        openstack-waits)
            in_cloud eventlet "$repository" "$waits" ;;
        openstack-*)
            in_cloud "${suite#openstack-}" "$repository" ;;
        unit)
            # Thousands of them sync a journal, and remove their directories:
            # in memory that takes no time.
            TMPDIR=$(memory) run_stestr unit "$repository" stestr ;;
        *)
            run_stestr "$suite" "$repository" stestr ;;
    esac
}

# Prints where temporary files are in memory, or just are.
memory() {
    if [ -w /dev/shm ]; then echo /dev/shm; else echo "${TMPDIR:-/tmp}"; fi
}

# in_cloud CONCURRENCY REPOSITORY [REGEX]: its tests share one cloud.
in_cloud() {
    NOVA_SNAPSHOT_CONCURRENCY=$1 run_stestr openstack "$2" stestr \
        --concurrency 1 --exclude-regex '^tests\.openstack\.ceph\.' "${@:3}"
}

# surviving COMMAND...: has the table of deaths after it.
surviving() {
    local status=0
    python -m tests.openstack.ceph.survival.table --begin
    "$@" || status=1
    echo
    python -m tests.openstack.ceph.survival.table
    return "$status"
}

# run_stestr DIRECTORY REPOSITORY STESTR [OPTION...]
run_stestr() {
    "$3" --test-path "./tests/$1" --repo-url "$2" run "${@:4}"
}

status=0
streams=()
for suite in "$@"; do
    repository=$results/$suite
    mkdir -p "$repository"
    printf '\n== %s tests\n' "$suite"
    run_suite "$suite" "$repository" || status=1
    stestr --repo-url "$repository" last --subunit \
        >"$repository.subunit" || status=1
    streams+=("$repository.subunit")
done

echo
python tools/test_totals.py "${streams[@]}" || status=1
exit "$status"
