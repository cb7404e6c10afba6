#!/usr/bin/env bash
# Checks what deploy/ renders to against checkov's policies for Kubernetes, and the Dockerfile against hadolint's and
# checkov's. It is part of `./check.sh long` and not of the short form: checkov takes 300 MB and two minutes to install.
# What is left out, and why, stands in deploy/.checkov.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
wanted=checkov==3.3.30
if [[ $(cat "$target/checkov/made-from" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$target/checkov"
    python3 -m venv "$target/checkov"
    "$target/checkov/bin/pip" install --quiet --disable-pip-version-check "$wanted"
    printf '%s\n' "$wanted" >"$target/checkov/made-from"
fi
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
for overlay in deploy/overlays/*/ tests/everything/ deploy/preview/ deploy/preview/slots/ant/; do
    "$target/test-servers/bin/kubectl" kustomize "$overlay" >"$rendered/$(basename "$overlay").yaml"
done
"$target/checkov/bin/checkov" --skip-download --config-file deploy/.checkov.yaml --directory "$rendered"
"$target/checkov/bin/checkov" --skip-download --compact --quiet --framework dockerfile --file Dockerfile
