#!/usr/bin/env bash
# Installs what the tests need and runs them all:
#
#   ./check.sh         everything that must pass before a change is taken
#   ./check.sh long    the policies of the manifests, and the whole-system tests with ten times the kills and rounds, under
#                      three seeds
#
# The last lines are the test runner's own summary. TROUGH_TEST_SEED repeats a run.
set -euo pipefail
cd "$(dirname "$0")"

begin=$SECONDS step= at=$SECONDS times=()
# step NAME: ends the step before, and says what it took.
step() {
    if [[ -n $step ]]; then times+=("$step $((SECONDS - at)) s"); fi
    step=$1 at=$SECONDS
    printf '\n== %s (at %d s)\n' "$step" "$((SECONDS - begin))"
}

has() { command -v "$1" >/dev/null 2>&1; }

step "what the tests need"
# A C and a C++ compiler (SQLite, the allocator, fuzzing); Python and curl, as the documents use them.
missing=()
has cc || missing+=(gcc libc6-dev)
has c++ || missing+=(g++)
has python3 || missing+=(python3)
has curl || missing+=(curl)
has mount || missing+=(mount)
if ((${#missing[@]})); then
    as_root=()
    if ((EUID != 0)); then as_root=(sudo); fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done
# The long form is for Swift, too.
tests/install-servers.sh "$([[ ${1:-} != long ]] || echo swift)"
# Ten thousand connections need ten thousand descriptors.
ulimit -Sn "$(ulimit -Hn)"
cargo fetch --locked --quiet
echo "$(rustc --version), $(nproc) cores, $(ulimit -n) open files"

if [[ ${1:-} == long ]]; then
    step "policies"
    tests/check-policies.sh
    step "build"
    cargo test --locked --workspace --test system --no-run
    if has cargo-nextest; then
        run=(cargo nextest run --locked --workspace --test system --profile long)
    else
        run=(cargo test --locked --workspace --test system -- --test-threads 2)
    fi
    for seed in ${TROUGH_TEST_SEED:-1 2 3}; do
        step "long form, seed $seed"
        TROUGH_TEST_SEED=$seed TROUGH_TEST_KILLS=${TROUGH_TEST_KILLS:-260} TROUGH_TEST_FUZZ=${TROUGH_TEST_FUZZ:-2000} \
            TROUGH_TEST_BENCH_FRAMES=${TROUGH_TEST_BENCH_FRAMES:-1000000} TROUGH_TEST_LONG=1 "${run[@]}"
    done
    step "done"
    printf '%s\n' "${times[@]}"
    exit
fi

step "format"
cargo fmt --all --check
step "lints"
cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
step "documents"
# Links between files lead somewhere.
while IFS=: read -r file link; do
    target=$(dirname "$file")/${link%%#*}
    [[ -e $target ]] || { echo "$file links to $link, which does not exist" >&2; exit 1; }
done < <(grep -oHE '\]\([^)#:]+(#[^)]*)?\)' ./*.md docs/*.md deploy/*.md | sed -E 's/\]\(([^)]*)\)$/\1/')
# Module docs point at private modules, for whoever reads the code.
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --quiet
step "build"
cargo test --locked --workspace --no-run --quiet
step "examples in the documents"
cargo test --locked --workspace --doc --quiet
step "fuzzing, a few seconds for each target"
# The targets of the journal and the bus take minutes to build; `fuzz/run.sh journal 60` and `fuzz/run.sh bus 60` run them.
fuzz/run.sh protocol 3 -verbosity=0

step "unit, property, simulation and whole-system tests"
printf '%s\n' "times so far:" "${times[@]}" ""
if has cargo-nextest; then
    cargo nextest run --locked --workspace
else
    # The workspace as a whole: a part of it alone would be built anew, with other features.
    cargo test --locked --workspace --lib --bins --tests -- --test-threads 4
fi
