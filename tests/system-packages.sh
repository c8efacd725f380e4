#!/bin/sh
# Installs what the tests need of the system, where that may be done: as root, on Debian and Ubuntu. Elsewhere the
# tests that need it say so when they are skipped.
set -eu
missing=
command -v bwrap >/dev/null || missing="$missing bubblewrap"
command -v socat >/dev/null || missing="$missing socat"
command -v chromium >/dev/null || missing="$missing chromium"
command -v git >/dev/null || missing="$missing git"
command -v openssl >/dev/null || missing="$missing openssl"
command -v shellcheck >/dev/null || missing="$missing shellcheck"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
command -v nginx >/dev/null || missing="$missing nginx-light"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing …" >&2
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    apt-get install -qq -y $missing >/dev/null 2>&1 || { apt-get update -qq && apt-get install -qq -y $missing >/dev/null; }
fi
