#!/usr/bin/env bash
# Makes .venv with the locked packages and this project in it. Safe to run twice: the second run is instant,
# a changed lock is installed over, a lock of the other kind (CPU, GPU) starts afresh.
#
#   PYTHON=python3.12 scripts/setup.sh                 another interpreter (3.11 or newer)
#   DAYTHREE_LOCK=locks/cpu.txt scripts/setup.sh       another lock than the machine suggests
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '==> %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && timeout 20 nvidia-smi -L 2>/dev/null | grep -q GPU; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

install_venv_module() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "Installing python3-venv"
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv) </dev/null >/dev/null
}

# pip's output as a short account of how far it is; the whole of it is in .venv/setup.log.
follow() {
    awk -v total="$1" -v terminal="$([ -t 1 ] && echo 1 || echo 0)" '
        /^Collecting /            { n++; if (terminal) { printf "\r    fetched %d of %d packages", n, total; fflush() } }
        /^Installing collected /  { if (terminal) printf "\n"; print "    unpacking them"; fflush() }'
}

install_packages() {
    local total started=$SECONDS
    total=$(grep -c '==' "$lock")
    say "Installing $total packages from $lock into .venv (a few minutes, about 3 GB on disk)"
    # --no-deps: the lock is complete, and what it leaves out is left out on purpose.
    if ! .venv/bin/python -m pip install --no-deps --no-input --progress-bar off --disable-pip-version-check \
        -r "$lock" </dev/null 2>&1 | tee .venv/setup.log | follow "$total"; then
        grep -E '^(ERROR|error)' .venv/setup.log | head -5 >&2 || true
        fail "the packages of $lock could not be installed; all of pip's output is in .venv/setup.log"
    fi
    .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check -e . \
        </dev/null || fail "this project could not be installed into .venv"
    say "Installed in $((SECONDS - started)) s"
}

check_torch() {
    .venv/bin/python -c 'import torch' 2>/dev/null || fail "torch does not import: where no NVIDIA GPU answers, \
pip must be configured with an index that offers the CPU build of torch $(sed -n 's/^torch==//p' "$lock"); \
then run: make clean setup"
}

[ "$(uname -s)" = Linux ] || fail "Day Three runs on Linux; this is $(uname -s)"
lock=${DAYTHREE_LOCK:-$(has_gpu && echo locks/gpu.txt || echo locks/cpu.txt)}
[ -f "$lock" ] || fail "there is no $lock"
stamp="$lock $(cat "$lock" pyproject.toml | sha256sum | cut -c 1-16) $PWD"
[ -x .venv/bin/python ] && [ "$(cat .venv/setup.stamp 2>/dev/null)" = "$stamp" ] && exit 0

python=$(find_python) || fail "Python 3.11, 3.12 or 3.13 is needed; python3 here is \
$(python3 --version 2>/dev/null || echo missing). Install one, or name it: make setup PYTHON=/path/to/python"
if [ -x .venv/bin/python ] && [ "$(cat .venv/setup.kind 2>/dev/null)" != "$lock" ]; then
    say "The .venv here was not made for $lock: starting afresh"
    rm -rf .venv
fi
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install_venv_module \
        || fail "$python has no venv module; install it (Debian: apt-get install python3-venv)"
    say "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || fail "$python could not make .venv"
fi
printf '%s\n' "$lock" >.venv/setup.kind
rm -f .venv/setup.stamp
install_packages
check_torch
printf '%s\n' "$stamp" >.venv/setup.stamp
