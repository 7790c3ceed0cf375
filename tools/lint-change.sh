#!/usr/bin/env bash
# Checks the style of a change: of the Python files that differ from where this
# branch has left the one that it is to be merged into, committed or not.
#
#   tools/lint-change.sh [BRANCH]
#
# BRANCH is by default the upstream of this branch, else main. On main itself
# the change is what is not committed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# base [BRANCH]: prints the commit that the change is compared with.
base() {
    local branch
    if [ "$#" -gt 0 ]; then
        git merge-base HEAD "$1"
        return
    fi
    for branch in '@{upstream}' origin/main main; do
        git merge-base HEAD "$branch" 2>/dev/null && return
    done
    git rev-parse HEAD
}

# Prints the files, each with a NUL after it.
changed() {
    git diff --name-only -z --diff-filter=d "$1" -- '*.py'
    git ls-files -z --others --exclude-standard -- '*.py'
}

base=$(base "$@")
mapfile -d '' files < <(changed "$base")
if [ "${#files[@]}" -eq 0 ]; then
    echo "No Python file differs from $(git describe --always "$base")."
    exit
fi
exec .venv/bin/tox -q run -e pep8 -- "${files[@]}"
