#!/usr/bin/env bash
# Fails if a generated file is not the one that git has. `git diff` alone is
# silent about a file that git has never seen.
set -euo pipefail

file=$1
git --no-pager diff --exit-code -- "$file" \
    && git ls-files --error-unmatch -- "$file" >/dev/null && exit

echo "$file was out of date and has been written anew:" \
     "read it, then add it to git." >&2
exit 1
