#!/usr/bin/env bash
# Runs suites of tests, all of them whatever becomes of the first, and ends
# with one line of totals:
#
#   tools/run-tests.sh unit \
#       functional,nova+openstack-ceph+openstack-threading,eventlet,deployment
#
# nova are the tests that need Nova, but no cloud. The ones in a cloud run with
# a nova-compute on native threads, or on eventlet (openstack-eventlet), and
# those in one with Ceph and Cinder on native threads (openstack-ceph). survive
# are all cases of the latter's tests of deaths, of which it has a few by lot.
# deployment are the tests in a cloud with a stock Nova, where the driver is
# deployed and taken out again.
# eventlet are the tests of openstack-eventlet that depend on the threads of
# nova-compute.
# exhaustive are the unit tests that fuzz, with many more examples, and the tables
# of faults, whole. quick are the unit tests without the large tables of faults,
# states and errors, without those that fuzz from end to end, and without those
# that start a process for each row: tests/quick names them.
#
# Suites with a comma between them run one after the other. A + is between such
# rows that run at the same time, since they wait for much of it. Each but the
# first begins with a cloud, and has a lab of its own. The first has the lab of
# the checkout, and is to have no suite that needs a cloud.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH=$PWD/.venv/bin:$PATH
# Logs and output of a test are shown where it fails.
export OS_STDOUT_CAPTURE=1 OS_STDERR_CAPTURE=1 OS_LOG_CAPTURE=1
export OS_TEST_TIMEOUT=600
# libvirt inside of a test logs errors alone, and the test captures them.
export LIBVIRT_DEBUG=4
# By which cases are drawn: each commit has others, and always the same. Further
# ones: NOVA_SNAPSHOT_SEED=$RANDOM.
export NOVA_SNAPSHOT_SEED=${NOVA_SNAPSHOT_SEED:-$(
    git rev-parse --short=7 HEAD 2>/dev/null || echo 7
)}
results=.lab/results
# The processes of the functional tests. A guest without KVM keeps a core busy,
# but half of the time is waiting: for hanging agents, for timeouts.
workers=4
# Where the rows beside the first have their labs.
aside=${NOVA_SNAPSHOT_LAB:-$PWD/.lab}/aside
elsewhere='^tests\.openstack\.(ceph|deployment)\.'
# How testtools marks a test in its name.
threads='\[threads\]$'
# A suite that can't be loaded leaves no result, and must not find an old one.
rm -rf "$results"

# The suites that are not simply the tests in the directory of their name, run
# with as many workers as there are cores.
run_suite() {
    local suite=$1 repository=$2
    case $suite in
        exhaustive)
            NOVA_SNAPSHOT_EXHAUSTIVE=1 OS_TEST_TIMEOUT=7200 \
                TMPDIR=$(memory) run_stestr unit "$repository" stestr \
                "$(drawing)" ;;
        deployment)
            run_stestr openstack/deployment "$repository" stestr \
                --concurrency 1 ;;
        functional)
            run_stestr functional "$repository" stestr \
                --concurrency "$workers" ;;
        nova)
            # Where Nova is, and its own tests.
            OS_NOVA_DISABLE_EVENTLET_PATCHING=True run_stestr nova \
                "$repository" "$(python -m lab cloud install)/bin/stestr"
            ;;
        openstack-ceph)
            surviving run_stestr openstack/ceph "$repository" stestr \
                --concurrency 1 ;;
        survive)
            # A test has all cases of a path.
            NOVA_SNAPSHOT_SURVIVAL=all OS_TEST_TIMEOUT=7200 \
                surviving run_stestr openstack/ceph/survival "$repository" \
                stestr --concurrency 1 ;;
        eventlet)
            in_cloud eventlet "$repository" "$threads" ;;
        openstack-*)
            in_cloud "${suite#openstack-}" "$repository" ;;
        quick)
            # Classes are dealt out without regard to how long they take: more
            # workers than cores even that out.
            TMPDIR=$(memory) run_stestr quick "$repository" stestr \
                --concurrency "$((4 * $(nproc)))" ;;
        unit)
            # Thousands of them sync a journal, and remove their directories:
            # in memory that takes no time.
            TMPDIR=$(memory) run_stestr unit "$repository" stestr ;;
        *)
            run_stestr "$suite" "$repository" stestr ;;
    esac
}

# in_cloud CONCURRENCY REPOSITORY [FILTER]: tests that share one cloud.
in_cloud() {
    NOVA_SNAPSHOT_CONCURRENCY=$1 run_stestr openstack "$2" stestr \
        --concurrency 1 --exclude-regex "$elsewhere" "${@:3}"
}

# Prints an expression for the modules that fuzz, or draw rows of a table: they
# ask how long to.
drawing() {
    grep -rlE 'from tests(\.exhaustive)? import (examples|exhaustive)$' \
        --include='test_*.py' tests/unit \
        | sed 's|/|.|g; s|\.py$|\\.|' | paste -sd '|'
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
    local repository=$results/$1 status=0 begin=$SECONDS
    mkdir -p "$repository"
    printf '\n== %s tests\n' "$1"
    run_suite "$1" "$repository" || status=1
    stestr --repo-url "$repository" last --subunit \
        >"$repository.subunit" || status=1
    printf '== %s tests: %d s\n' "$1" $((SECONDS - begin))
    return "$status"
}

# run_row ROW: suites with a comma between them.
run_row() {
    local suite suites status=0
    IFS=, read -ra suites <<<"$1"
    for suite in "${suites[@]}"; do
        run "$suite" || status=1
    done
    return "$status"
}

# run_rows ROW ROW...: what the others print comes after the first's end. All
# stop what they have started.
run_rows() {
    local status=0 row others=() workers=3
    mkdir -p "$results"
    for row in "${@:2}"; do
        run_aside "$row" >"$(log_of "$row")" 2>&1 &
        others+=("$!")
    done
    # What runs in the background takes no notice of Ctrl-C.
    trap 'trap - INT TERM; kill 0' INT TERM
    run_row "$1" || status=1
    for row in "${!others[@]}"; do
        wait "${others[row]}" || status=1
    done
    # The first one's lab has what the others share.
    python -m lab down || status=1
    trap - INT TERM
    for row in "${@:2}"; do
        cat "$(log_of "$row")"
    done
    return "$status"
}

log_of() {
    echo "$results/${1%%,*}.log"
}

# run_aside ROW: in a lab of its own, with a cloud.
run_aside() {
    local status=0 storage=()
    export NOVA_SNAPSHOT_LAB=$aside/${1%%,*}
    mkdir -p "$NOVA_SNAPSHOT_LAB"
    [ -L "$NOVA_SNAPSHOT_LAB/cache" ] \
        || ln -s ../../cache "$NOVA_SNAPSHOT_LAB/cache"
    case $1 in
        openstack-ceph*) storage=(--storage ceph) ;;
    esac
    # Two clouds that chose their ports at the same moment might choose alike.
    flock "$results/ports" python -m lab cloud up "${storage[@]}" || status=1
    run_row "$1" || status=1
    python -m lab down || status=1
    return "$status"
}

printf 'NOVA_SNAPSHOT_SEED=%s\n' "$NOVA_SNAPSHOT_SEED"
status=0
streams=()
for group in "$@"; do
    IFS=+ read -ra rows <<<"$group"
    case ${#rows[@]} in
        1) run_row "${rows[@]}" || status=1 ;;
        *) run_rows "${rows[@]}" || status=1 ;;
    esac
    IFS=,+ read -ra suites <<<"$group"
    streams+=("${suites[@]/#/$results/}")
done

echo
python tools/test_totals.py "${streams[@]/%/.subunit}" || status=1
exit "$status"
