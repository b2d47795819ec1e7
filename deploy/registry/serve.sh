#!/bin/sh
# Runs the registry of compose.yaml, and its garbage collection when a worker asks for it
# (pipeline/own_registry/asked_registry.py says how). While blobs are removed the registry is
# read-only; nothing is removed for anybody who does not wait for it, as pushes may go on then.
set -u

config=${MODELYARD_REGISTRY_CONFIG:-/etc/docker/registry/config.yml}
control=${MODELYARD_REGISTRY_CONTROL:-/var/lib/registry/collection}
address=${REGISTRY_HTTP_ADDR:-127.0.0.1:5000}
forgotten_s=15
server='' collection=''

main() {
    # Workers are another user.
    mkdir -p "$control" && chmod 0777 "$control" || exit 1
    # Whoever asked has given up, or asks again.
    rm -f "$control"/*
    trap 'end' TERM INT
    serve
    while kill -0 "$server" 2>/dev/null; do
        if waits "$control/ask"; then answer; fi
        pause
    done
    wait "$server"
}

# serve [COMMAND…]: in front of the registry's own.
serve() {
    "$@" registry serve "$config" &
    server=$!
}

answer() {
    read -r what id <"$control/ask" && mv "$control/ask" "$control/$id.taken" || return
    code=1
    case $what in
    measure) collect --dry-run ;;
    collect)
        stop "$server"
        serve env 'REGISTRY_STORAGE_MAINTENANCE_READONLY={"enabled":true}'
        collect
        stop "$server"
        serve
        until_it_answers
        ;;
    esac
    printf '\nexit code %s\n' "$code" >>"$control/log"
    mv "$control/log" "$control/$id"
    rm -f "$control/$id.taken"
}

collect() {
    registry garbage-collect "$@" "$config" >"$control/log" 2>&1 &
    collection=$!
    while kill -0 "$collection" 2>/dev/null; do
        waits "$control/$id.taken" || kill -KILL "$collection"
        pause
    done
    wait "$collection"
    code=$?
    collection=''
}

# waits FILE: whether somebody still touches it.
waits() {
    touched=$(date -r "$1" +%s 2>/dev/null) && [ $(($(date +%s) - touched)) -lt $forgotten_s ]
}

until_it_answers() {
    tries=30
    until wget -q -O /dev/null "http://$address/" || [ $((tries -= 1)) -le 0 ]; do pause; done
}

# A signal is answered at once.
pause() {
    sleep 0.5 &
    wait $!
}

stop() {
    kill -TERM "$1" 2>/dev/null
    wait "$1"
}

end() {
    [ -z "$collection" ] || kill -KILL "$collection" 2>/dev/null
    stop "$server"
    exit 0
}

main
