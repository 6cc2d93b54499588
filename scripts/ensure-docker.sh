#!/bin/sh
# Make a Docker engine answer on this machine. Safe to run twice; does nothing when one answers already.
# Where none does, and we are root on a Debian-like system: installs docker.io and starts the engine by hand.
set -eu

WAIT_S=${WAIT_S:-60}

say() { echo "ensure-docker: $*" >&2; }
answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
logs() { if [ -w /var/log ]; then echo /var/log/dockerd.log; else echo "${TMPDIR:-/tmp}/dockerd.log"; fi; }

if answers; then exit 0; fi
if [ "$(id -u)" != 0 ]; then
    say "no Docker engine answers; start one, or run this as root to have it installed"
    exit 1
fi

if ! command -v dockerd >/dev/null 2>&1 || ! command -v docker >/dev/null 2>&1; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "no Docker engine is installed and apt-get is missing; install Docker, then try again"
        exit 1
    fi
    log=$(mktemp)
    say "installing docker.io"
    # Installing must not start anything through an init system that may not be there.
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y --no-install-recommends docker.io iptables ca-certificates; } >"$log" 2>&1; then
        say "installing docker.io failed: $(grep -E '^E:' "$log" | tail -1); see $log"
        exit 1
    fi
    rm -f "$log"
    # Newer Debian releases have the client, which asks the engine whether it answers, in its own package.
    if ! command -v docker >/dev/null 2>&1; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker-cli >/dev/null 2>&1 || true
    fi
fi

if ! answers; then
    log=$(logs)
    say "starting the Docker engine (log: $log)"
    setsid nohup dockerd >>"$log" 2>&1 </dev/null &
    engine=$!
    end=$(($(date +%s) + WAIT_S))
    until answers; do
        if ! kill -0 "$engine" 2>/dev/null && ! pidof dockerd >/dev/null 2>&1; then
            say "the Docker engine ended at once: $(tail -1 "$log"); see $log"
            exit 1
        fi
        if [ "$(date +%s)" -ge "$end" ]; then
            say "the Docker engine did not answer within $WAIT_S s; see $log"
            exit 1
        fi
        sleep 0.5
    done
fi
