#!/usr/bin/env bash
# Fuzzes one target for some seconds with coverage feedback, on a stable toolchain and a C++ compiler:
#
#   fuzz/run.sh TARGET SECONDS [libFuzzer options]
#   fuzz/run.sh protocol SECONDS     the targets of the wire formats, one after another
#   fuzz/run.sh journal SECONDS      those of the journal and of segments; to build them takes some minutes
#   fuzz/run.sh bus SECONDS          those of the bus; likewise
#   fuzz/run.sh all SECONDS          all of them
#
# cargo-fuzz would do the same with a nightly toolchain; what it adds is instrumentation, which LLVM does for the
# stable compiler too. The seeds are the golden vectors. Finds are kept in fuzz/artifacts/TARGET, what covers
# something new in fuzz/corpus/TARGET. It exits with 0 if nothing was found.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
targets=$(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' "$here/Cargo.toml")

case ${1:-} in
all) group=$targets ;;
protocol) group=$(grep -vE '^(journal|segment|bus)_' <<<"$targets") ;;
journal) group=$(grep -E '^(journal|segment)_' <<<"$targets") ;;
bus) group=$(grep '^bus_' <<<"$targets") ;;
*) group=$(grep -x -- "${1:-none}" <<<"$targets" || true) ;;
esac
if [[ -z $group || ! ${2:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: fuzz/run.sh TARGET SECONDS [libFuzzer options], where TARGET is all, protocol, journal, bus, or one of:" \
        $targets >&2
    exit 2
fi
target=$1 seconds=$2
shift 2
if [[ $group != "$target" ]]; then
    for target in $group; do "$0" "$target" "$seconds" "$@"; done
    exit
fi

features=()
[[ $target == journal_* || $target == segment_* ]] && features=(--features journal)
[[ $target == bus_* ]] && features=(--features bus)
host=$(rustc -vV | sed -n 's/^host: //p')
build="${CARGO_TARGET_DIR:-$here/target}/fuzz"
# --target keeps the instrumentation away from build scripts and macros.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cforce-frame-pointers" \
    cargo build --release --locked --quiet --manifest-path "$here/Cargo.toml" --target "$host" \
    --target-dir "$build" --bin "$target" "${features[@]}"

corpus="$here/corpus/$target" artifacts="$here/artifacts/$target"
mkdir -p "$corpus" "$artifacts"

# seed NAME HEX: one file of the corpus.
seed() { printf "$(sed 's/../\\x&/g' <<<"$2")" >"$corpus/seed-${1//\//-}"; }
# seeds FILE NAMES: the lines of a golden file whose name begins with NAMES.
golden="$here/../protocol/tests/golden"
seeds() {
    while IFS=$'\t' read -r name bytes _; do
        if [[ $name == $2* ]]; then
            if [[ $1 == binary ]]; then seed "$name" "$bytes"; else printf '%s' "$bytes" >"$corpus/seed-$1-${name//\//-}"; fi
        fi
    done < <(grep -v '^#' "$golden/$1.txt")
}
options=()
case $target in
device_binary) seeds binary device/ && seeds binary server/ ;;
device_json)
    seeds json device/ && seeds json server/ && seeds json-also-read ""
    options+=("-dict=$here/json.dict")
    ;;
frame) seeds binary frame/ ;;
batch) seeds binary batch/ ;;
link) seeds binary link/ ;;
# The golden bytes of bus/src/envelope.rs, and what is sealed in those of bus/src/seal.rs.
bus_envelope) seed golden 54620101c5e00ee368656c6c6f ;;
bus_sealed) seed golden 5473010040420f000000000080841e000000000077686f ;;
journal_* | segment_*)
    while IFS=$'\t' read -r name bytes; do
        [[ $name == "$target"/* ]] && seed "$name" "$bytes"
    done < <(grep -v '^#' "$here/journal-seeds.txt")
    ;;
esac

"$build/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=1024 \
    -artifact_prefix="$artifacts/" "${options[@]}" "$@" "$corpus"
