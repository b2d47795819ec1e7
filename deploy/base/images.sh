#!/usr/bin/env bash
# Makes every image of compose.yaml in the engine of DOCKER_HOST without pulling any, from programs
# of this host, and prints the variables that name them:
#
#   export $(deploy/base/images.sh) && docker compose up -d
#   deploy/base/images.sh modelyard          only this one (of: modelyard nats mongo registry)
#
# PYTHON names an interpreter with pip (default python3); the wheels of nats-server and mongod are
# looked up beside it, docker-registry on PATH. Unchanged images are not built again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
cache=${MODELYARD_CACHE:-$HOME/.cache/modelyard}
python=${PYTHON:-python3}
# shellcheck source=deploy/base/packages.sh
. "$here/packages.sh"
# shellcheck source=deploy/base/steps.sh
. "$here/steps.sh"

main() {
    mkdir -p "$cache"
    base=$("$here/build.sh")
    [ $# -gt 0 ] || set -- modelyard nats mongo registry
    for name in "$@"; do
        work=$(mktemp -d "$cache/context.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        "context_$name" "$work"
        rm -rf "$work"
    done
}

context_modelyard() {
    (cd "$checkout" && cp -r --parents Dockerfile .dockerignore requirements.txt deploy/image \
        modelyard schemas pipeline workers api cli "$1")
    ln "$("$here/wheels.sh" "$checkout/requirements.txt")"/*.whl "$1"
    base=$(base_with_haproxy "$1") build MODELYARD_IMAGE modelyard:local "$1"
}

# The gateway is of the product's image: who keeps HAProxy in step has it check what it writes.
base_with_haproxy() {
    local context=$1/base
    mkdir -p "$context/haproxy/usr/lib"
    ln -s usr/lib "$context/haproxy/lib"
    step "laying out haproxy" unpack "$cache/archives" "$context/haproxy" \
        'libc6|libssl3|libstdc\+\+6|libgcc-s1|gcc-12-base|dpkg|tar|debconf|(lib)?perl.*|lib(pam|sem).*' haproxy
    build BASE modelyard/base-haproxy:local "$context" <<'END' | cut -d= -f2
COPY haproxy/usr/lib /usr/lib
COPY haproxy/usr/sbin/haproxy /usr/sbin/
END
    rm -rf "$context"
}

context_nats() {
    put "$1" nats-server "$(beside_python nats-server)"
    build MODELYARD_NATS_IMAGE modelyard/nats:local "$1" <<'END'
COPY nats-server /usr/local/bin/
END
}

context_mongo() {
    put "$1" mongod "$(cd "$checkout" && "$python" -c \
        'from pipeline.stack.pieces.mongod import mongod_binary; print(mongod_binary())')"
    mkdir -p "$1/libraries"/usr/lib
    ln -s usr/lib "$1/libraries/lib"
    step "laying out the libraries of mongod" \
        unpack "$cache/archives" "$1/libraries" 'libc6|libssl3|gcc-12-base|dpkg|tar|debconf' libcurl4
    build MODELYARD_MONGO_IMAGE modelyard/mongo:local "$1" <<'END'
COPY libraries/usr/lib /usr/lib
COPY mongod /usr/local/bin/
RUN mkdir -p /data/db && chown 999:999 /data/db
USER 999:999
END
}

context_registry() {
    put "$1" registry "$(command -v docker-registry)"
    cat >"$1/config.yml" <<'END'
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
END
    build MODELYARD_REGISTRY_IMAGE modelyard/registry:local "$1" <<'END'
COPY registry /usr/local/bin/
COPY config.yml /etc/docker/registry/config.yml
VOLUME /var/lib/registry
CMD ["registry", "serve", "/etc/docker/registry/config.yml"]
END
}

beside_python() {
    local beside
    beside=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")/$1
    if [ -x "$beside" ]; then echo "$beside"; else command -v "$1"; fi
}

put() { ln "$3" "$1/$2" 2>/dev/null || cp "$3" "$1/$2"; }

# build VARIABLE IMAGE CONTEXT: without a Dockerfile in the context, its steps come from stdin.
build() {
    if [ ! -e "$3/Dockerfile" ]; then
        # shellcheck disable=SC2016
        { printf 'ARG BASE\nFROM ${BASE}\n' && cat; } >"$3/Dockerfile"
    fi
    image_build "$2" "$3" --build-arg BASE="$base"
    echo "$1=$2"
}

main "$@"
