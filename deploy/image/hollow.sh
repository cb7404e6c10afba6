#!/bin/sh
# Gives every member of the workspace that has only a manifest an empty source, so that the dependencies of all of them can
# be built before any source is there (see the Dockerfile).
set -eu
cd "$(dirname "$0")/../.."
for manifest in */Cargo.toml clients/*/Cargo.toml; do
    member=$(dirname "$manifest")
    mkdir -p "$member/src"
    [ -e "$member/src/lib.rs" ] || touch "$member/src/lib.rs"
    # Benchmarks are found by their names.
    sed -n '/^\[\[bench\]\]/,/^$/ s/^name = "\(.*\)"$/\1/p' "$manifest" | while read -r bench; do
        mkdir -p "$member/benches"
        [ -e "$member/benches/$bench.rs" ] || echo 'fn main() {}' >"$member/benches/$bench.rs"
    done
done
mkdir -p tests/system
[ -e tests/system/main.rs ] || touch tests/system/main.rs
[ -e trough/src/main.rs ] || echo 'fn main() {}' >trough/src/main.rs
