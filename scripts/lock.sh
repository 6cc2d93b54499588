#!/usr/bin/env bash
# Resolves locks/cpu.txt and locks/gpu.txt from pyproject.toml, each written beside and then renamed.
set -euo pipefail
cd "$(dirname "$0")/.."

.venv/bin/python -m uv --version >/dev/null 2>&1 \
    || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
resolve() {
    .venv/bin/python -m uv pip compile pyproject.toml "$@" --python-version 3.11 --no-header --no-annotate --quiet
}

echo "==> Resolving locks/cpu.txt"
# The CPU build of torch needs none of CUDA's packages, which its metadata names all the same.
resolve --extra train-cpu --extra dev --overrides locks/overrides.txt \
    | grep -vE '^(nvidia-|cuda-|triton)' >locks/cpu.txt.new
mv locks/cpu.txt.new locks/cpu.txt

echo "==> Resolving locks/gpu.txt"
resolve --extra train --extra dev >locks/gpu.txt.new
mv locks/gpu.txt.new locks/gpu.txt
