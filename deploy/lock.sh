#!/usr/bin/env bash
# Pins every dependency with its hashes. The files name no index, so that any mirror serves them.
# usage: deploy/lock.sh UV [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$1
shift

pin() {
    local source=$1 output=$2
    shift 2
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
        "$source" "$@" --output-file "$output"
}

# The smaller sets follow the largest, so that all agree on every version.
pin pyproject.toml requirements-dev.txt --extra local --extra dev --extra build "$@"
pin pyproject.toml requirements-local.txt --extra local --extra build --constraint requirements-dev.txt
pin pyproject.toml requirements.txt --constraint requirements-dev.txt
# A generator that wants older libraries than the product: it gets an environment of its own.
pin tests/clients/requirements.in tests/clients/requirements.txt "$@"
