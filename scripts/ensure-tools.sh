#!/bin/sh
# Install the programs that sandboxes are built with, where they are missing. Safe to run twice.
set -eu

say() { echo "ensure-tools: $*" >&2; }

missing=
for pair in bwrap:bubblewrap debootstrap:debootstrap rg:ripgrep git:git; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    say "missing:$missing; install them, or run this as root on a Debian-like system"
    exit 1
fi
log=$(mktemp)
say "installing$missing"
# shellcheck disable=SC2086
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
    >"$log" 2>&1; then
    say "installing$missing failed: $(grep -E '^E:' "$log" | tail -1); see $log"
    exit 1
fi
rm -f "$log"
