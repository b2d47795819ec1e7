#!/bin/sh
# Runs a command with the keys of this installation in its environment, where the `setup` service of
# compose.yaml has made some. What the environment says already wins.
set -eu

keys=${MODELYARD_KEYS:-/var/lib/modelyard/keys/env}
if [ -r "$keys" ]; then
    # shellcheck source=/dev/null
    . "$keys"
fi
exec "$@"
