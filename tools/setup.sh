#!/usr/bin/env bash
# Prepares a checkout on Debian or Ubuntu: a virtual environment in .venv with
# the package, in place, and what its tests need, and the packages of the
# distribution that bindep.txt names for that and for the given profiles; and
# what is in PROFILE-requirements.txt, where there is such a file.
#
#   tools/setup.sh [PROFILE...]
#
# PYTHON=/path/to/python3 chooses the interpreter. What the tools say goes to
# .lab/setup.log. A second run finds nothing to do.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv
log=$root/.lab/setup.log

# A minimal system has no other locale; `su` and cron leave out the sbin
# directories, without which dpkg refuses to work.
export LC_ALL=C.UTF-8
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

die() {
    echo "setup: $*" >&2
    exit 1
}

# run WHAT COMMAND...: one line for the reader, the rest for the log.
run() {
    echo "setup: $1"
    echo "== $*" >>"$log"
    "${@:2}" >>"$log" 2>&1 </dev/null && return
    tail -n 25 "$log" >&2
    die "could not $1; all of it is in $log"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n -- "$@"; fi
}

install_packages() {
    command -v apt-get >/dev/null \
        || die "please install $*: this script knows apt-get alone"
    # Here the password may be asked for: the commands below have no terminal.
    [ "$(id -u)" -eq 0 ] || sudo -v 2>/dev/null \
        || die "root, or sudo, is needed to install: $*"
    # On a new machine the automatic upgrades may hold the lock for minutes.
    local apt_get=(env DEBIAN_FRONTEND=noninteractive
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    if [ -z "${updated-}" ]; then
        run "update the list of packages" as_root "${apt_get[@]}" update
        updated=yes
    fi
    run "install $*" \
        as_root "${apt_get[@]}" install --no-install-recommends "$@"
}

recent_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The distribution's own Python comes first: the bindings that exist as
# packages alone, and the headers of python3-dev, are made for it.
find_python() {
    local candidate
    for candidate in ${PYTHON:-/usr/bin/python3 python3}; do
        if recent_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

choose_python() {
    command -v "${PYTHON:-python3}" >/dev/null \
        || install_packages python3-venv
    python=$(find_python) || die \
        "Python >= 3.11 is needed, which Debian 12 and Ubuntu 24.04 have." \
        "Where another one is installed: PYTHON=/path/to/python3 make ..."
    # Debian keeps the half of venv that installs pip in a package of its own.
    "$python" -c 'import ensurepip, venv' 2>/dev/null \
        || install_packages python3-venv
    "$python" -c 'import ensurepip, venv' 2>/dev/null \
        || die "$python cannot make virtual environments (no ensurepip)"
}

install_missing_packages() {
    local missing
    # bindep fails both when something is missing and when it can't tell.
    missing=$("$venv/bin/bindep" --brief "$@" 2>>"$log") && return
    [ -n "$missing" ] || die "bindep failed; see $log"
    # shellcheck disable=SC2086 # one word for each package
    install_packages $missing
}

# pbr asks git for the version. git refuses to read the checkout of another
# user, which it may here: whoever runs this script runs that user's code
# anyway. Without git, or a commit, there is no version to be found.
help_pbr() {
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory
    export GIT_CONFIG_VALUE_0=$root
    git rev-parse --quiet --verify HEAD >/dev/null 2>&1 \
        || export PBR_VERSION=${PBR_VERSION:-0.1.0.dev0}
}

# The inputs that the result depends on. The path is one of them, as the scripts
# of a virtual environment contain it.
fingerprint() {
    {
        echo "$root" "${PYTHON:-}"
        cat tools/setup.sh pyproject.toml setup.cfg bindep.txt \
            ./*requirements.txt
    } | sha256sum
}

is_done() {
    [ "$(cat "$venv/$1.done" 2>/dev/null)" = "$fingerprint" ]
}

mark_done() {
    echo "$fingerprint" >"$venv/$1.done"
}

fingerprint=$(fingerprint)
mkdir -p "${log%/*}"

# An upgrade of the distribution takes the interpreter away.
if ! is_done setup || ! "$venv/bin/python" -c '' 2>/dev/null; then
    : >"$log"
    choose_python
    help_pbr
    # tox leaves a file of that name where there is no such directory.
    [ -d "$venv" ] || rm -f "$venv"
    run "make .venv with $python" "$python" -m venv --clear "$venv"
    run "install bindep and tox" \
        "$venv/bin/pip" install 'bindep>=2.13.0' 'tox>=4.28'
    install_missing_packages compile
    run "install nova-snapshot-driver and what its tests need" \
        "$venv/bin/pip" install --editable . -r test-requirements.txt
    mark_done setup
fi

for profile in "$@"; do
    is_done "$profile" && continue
    install_missing_packages "$profile"
    [ ! -e "$profile-requirements.txt" ] || run "install what $profile needs" \
        "$venv/bin/pip" install -r "$profile-requirements.txt"
    mark_done "$profile"
done
