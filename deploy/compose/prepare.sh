#!/bin/sh
# Makes what compose.yaml mounts, unless it is there: the keys, and a certificate for localhost that signs itself.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
cd secrets
[ -e bus.key ] || head -c 32 /dev/urandom >bus.key
[ -e seal.key ] || head -c 32 /dev/urandom >seal.key
[ -e link.key ] || openssl rand -hex 32 >link.key
[ -e tls.crt ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout tls.key -out tls.crt 2>/dev/null
# The image's user is another one than whoever runs this; the folder keeps others out.
chmod 644 bus.key link.key seal.key tls.crt
