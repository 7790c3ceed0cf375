#!/usr/bin/env bash
# Runs suites of tests, all of them whatever becomes of the first, and ends
# with one line of totals:
#
#   tools/run-tests.sh unit functional nova \
#       openstack-threading+openstack-eventlet
#
# nova are the tests that need Nova, but no cloud. The ones in a cloud run with
# a nova-compute on native threads, or on eventlet (openstack-eventlet), and
# those in one with Ceph and Cinder on native threads (openstack-ceph). survive
# are all cases of the latter's tests of deaths, of which it has a few by lot.
#
# Two suites in a cloud with a + between them run at the same time, the second
# in a lab of its own: half of the time they wait.
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
results=.lab/results
# The lab of the second of two suites.
aside=${NOVA_SNAPSHOT_LAB:-$PWD/.lab}/aside
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
            run_stestr functional "$repository" stestr --concurrency 4 ;;
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
        openstack-*)
            # Its tests share one cloud.
            NOVA_SNAPSHOT_CONCURRENCY=${suite#openstack-} \
                run_stestr openstack "$repository" stestr \
                --concurrency 1 --exclude-regex '^tests\.openstack\.ceph\.' ;;
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

# run SUITE: leaves its results.
run() {
    local repository=$results/$1 status=0
    mkdir -p "$repository"
    printf '\n== %s tests\n' "$1"
    run_suite "$1" "$repository" || status=1
    stestr --repo-url "$repository" last --subunit \
        >"$repository.subunit" || status=1
    return "$status"
}

# run_both SUITE SUITE: what the second prints comes after the first's end.
run_both() {
    local status=0 second
    mkdir -p "$aside" "$results"
    [ -L "$aside/cache" ] || ln -s ../cache "$aside/cache"
    # Two clouds that chose their ports at the same moment might choose alike.
    NOVA_SNAPSHOT_LAB=$aside python -m tests.lab cloud up || status=1
    NOVA_SNAPSHOT_LAB=$aside run "$2" >"$results/$2.log" 2>&1 &
    second=$!
    # What runs in the background takes no notice of Ctrl-C.
    trap 'trap - INT TERM; kill 0' INT TERM
    run "$1" || status=1
    wait "$second" || status=1
    trap - INT TERM
    cat "$results/$2.log"
    NOVA_SNAPSHOT_LAB=$aside python -m tests.lab down || status=1
    return "$status"
}

status=0
streams=()
for group in "$@"; do
    IFS=+ read -ra suites <<<"$group"
    case ${#suites[@]} in
        1) run "${suites[@]}" || status=1 ;;
        *) run_both "${suites[@]}" || status=1 ;;
    esac
    streams+=("${suites[@]/#/$results/}")
done

echo
python tools/test_totals.py "${streams[@]/%/.subunit}" || status=1
exit "$status"
