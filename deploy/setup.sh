#!/usr/bin/env bash
# Installs what is missing to run the embedded stack (`run`) or to develop and test (`dev`).
# usage: deploy/setup.sh run|dev VENV
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=$1
venv=$2

say() { printf '%s\n' "$*" >&2; }

# "what proves that it is there|Debian package"
run_needs=(
    "dockerd|docker.io"
    "docker-registry|docker-registry"
    "haproxy|haproxy"
    "ip|iproute2"
    "iptables|iptables"
    "setpriv|util-linux"
    "lib:libcurl.so.4|libcurl4"
    "file:/etc/ssl/certs/ca-certificates.crt|ca-certificates"
)
dev_needs=(
    "skopeo|skopeo"
    "docker-compose|docker-compose"
    "debootstrap|debootstrap"
    "static:busybox|busybox-static"
    "ab|apache2-utils"
    "jq|jq"
    "node|nodejs"
    "npm|npm"
    "promtool|prometheus"
    "chromium|chromium"
    "chromedriver|chromium-driver"
    "curl|curl"
    "git|git"
    "node|nodejs"
    "npm|npm"
)

is_there() {
    case $1 in
        lib:*) ldconfig -p | grep -q "${1#lib:}" ;;
        file:*) test -e "${1#file:}" ;;
        # The one that is linked dynamically runs in no container.
        static:*) file_is_static "$(PATH=$PATH:/usr/sbin:/sbin command -v "${1#static:}")" ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

file_is_static() { test -n "$1" && ! ldd "$1" >/dev/null 2>&1; }

missing_packages() {
    local need
    for need in "$@"; do
        is_there "${need%%|*}" || printf '%s\n' "${need##*|}"
    done
}

install_packages() {
    test $# -gt 0 || return 0
    if test "$(id -u)" -ne 0; then
        say "Missing: $*. Install them as root: apt-get install $*"
        exit 1
    fi
    if ! command -v apt-get >/dev/null; then
        say "Missing: $*. This machine has no apt-get: install their equivalents and run this again."
        exit 1
    fi
    say "Installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # A list that is a day old names versions that are gone.
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    # Debian starts them as services of its own; the registry on the port that the stack wants.
    local service
    for service in docker-registry haproxy prometheus; do
        if test -d /run/systemd/system && [[ " $* " == *" $service "* ]]; then
            systemctl disable --quiet --now "$service"
        fi
    done
}

python_is_good() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if python_is_good "$name"; then
            printf '%s\n' "$name"
            return 0
        fi
    done
    return 1
}

make_venv() {
    if test -x "$venv/bin/python" && "$venv/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    if ! find_python >/dev/null; then
        # Ubuntu 22.04 has 3.11 beside its older default.
        install_packages python3-venv
        find_python >/dev/null || install_packages python3.11 python3.11-venv
    fi
    say "Making $venv with $(find_python)"
    rm -rf "$venv"
    "$(find_python)" -m venv "$venv"
}

install_python_packages() {
    say "Installing Python packages of $1"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --only-binary :all: -r "$1"
    # Its dependencies are there, with hashes; setuptools, too.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
}

# What others wrote for node, to be run against ours: by version and hash, from whatever mirror.
install_node_packages() {
    say "Installing node packages of $1"
    local folder
    folder=$venv/$(basename "$1")
    mkdir -p "$folder"
    cp "$1/package.json" "$1/package-lock.json" "$folder/"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent
}

needs=("${run_needs[@]}")
requirements=requirements-local.txt
if test "$purpose" = dev; then
    needs+=("${dev_needs[@]}")
    requirements=requirements-dev.txt
fi
mapfile -t packages < <(missing_packages "${needs[@]}")
install_packages "${packages[@]}"
make_venv
install_python_packages "$requirements"
if test "$purpose" = dev; then
    install_node_packages tests/clients/tus
    install_node_packages tests/clients/onebackend
fi
