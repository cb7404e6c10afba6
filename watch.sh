#!/usr/bin/env bash
# The development loop: compiles and runs the unit tests whenever a source changes.
#
#   ./watch.sh                  the whole workspace's unit tests
#   ./watch.sh journal::        those whose path has this in it
#   ./watch.sh --system nginx   whole-system tests instead (tests/install-servers.sh first)
#
# It looks at the sources every half second, so it needs nothing to be installed.
set -uo pipefail
cd "$(dirname "$0")"
run=(cargo test --workspace --lib)
if [[ ${1:-} == --system ]]; then
    run=(cargo test --workspace --test system)
    shift
fi
# What is newest, and how many there are: a file that goes counts, too.
state() {
    find . \( -name target -o -name .git \) -prune -o \
        \( -name '*.rs' -o -name '*.toml' -o -name '*.sql' -o -name '*.yaml' \) -printf '%T@ %p\n' | sort | sha256sum
}
seen=
while true; do
    now=$(state)
    if [[ $now != "$seen" ]]; then
        seen=$now
        printf '\n== %s\n' "$(date +%T)"
        "${run[@]}" -- "$@" && echo "== all is well"
    fi
    sleep 0.5
done
