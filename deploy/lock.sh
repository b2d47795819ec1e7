#!/usr/bin/env bash
# Pins every dependency with its hashes. The files name no index, so that any mirror serves them.
# usage: deploy/lock.sh UV [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$1
shift

pin() {
    local output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
        pyproject.toml "$@" --output-file "$output"
}

# The smaller sets follow the largest, so that all agree on every version.
pin requirements-dev.txt --extra local --extra dev --extra build "$@"
pin requirements-local.txt --extra local --extra build --constraint requirements-dev.txt
pin requirements.txt --constraint requirements-dev.txt
