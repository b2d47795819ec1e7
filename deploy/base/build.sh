#!/usr/bin/env bash
# Makes modelyard/base:<release>, a small Python image, from this host's own Debian or Ubuntu
# packages: for machines that can reach a package mirror but no image registry.
#
#   deploy/base/build.sh            imports it into the engine of DOCKER_HOST, prints its name
#   deploy/base/build.sh --key      prints what identifies its contents; touches no engine
#
# The tarball is kept under MODELYARD_CACHE (default ~/.cache/modelyard), named by a hash of the
# packages and of these scripts: a second run takes a second, an upgraded package makes a new one.
# Root is not needed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/base/packages.sh
. "$here/packages.sh"
# shellcheck source=deploy/base/steps.sh
. "$here/steps.sh"

packages=(python3 busybox-static ca-certificates libstdc++6)
# Needed to install packages, not to run Python.
skip='dpkg|tar|debconf|openssl|libacl1|libmd0|libselinux1|libpcre2-8-0|gcc-12-base|readline-common'

main() {
    cache=${MODELYARD_CACHE:-$HOME/.cache/modelyard}
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    key=$( (freshly resolve "${packages[@]}" && cat "$here"/{build,packages}.sh) | sha256sum | cut -c1-16)
    if [ "${1:-}" = --key ]; then
        echo "$key"
        return
    fi
    mkdir -p "$cache"
    exec 9>"$cache/base.lock"
    flock 9
    tarball=$cache/base-$release-$key.tar
    [ -s "$tarball" ] || assemble "$tarball"
    import "$tarball" "modelyard/base:$release"
}

assemble() {
    work=$(mktemp -d "$cache/base.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    root=$work/root
    lay_out "$root"
    step "laying out packages of $release" \
        unpack "$cache/archives" "$root" "$skip" "${packages[@]}"
    trim "$root"
    finish "$root"
    compile "$root"
    rm -f "$cache/base-$release"-*.tar
    tar -c -C "$root" --sort=name --numeric-owner --owner=0 --group=0 -f "$work/base.tar" .
    mv "$work/base.tar" "$1"
}

lay_out() {
    mkdir -p "$1"/usr/{bin,sbin,lib,lib64} "$1"/{dev,etc,proc,root,run,sys,tmp,var/tmp}
    chmod 755 "$1"
    chmod 1777 "$1/tmp" "$1/var/tmp"
    chmod 700 "$1/root"
    for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$1/$folder"; done
}

trim() {
    find "$1/usr/share/doc" ! -type d ! -name copyright -delete
    find "$1/usr/share/doc" -type d -empty -delete
    rm -rf "$1"/usr/share/{man,info,lintian,locale,pixmaps,applications,bug,doc-base} \
        "$1"/usr/share/{initramfs-tools,binfmts,gdb,gcc} "$1"/usr/lib/{valgrind,binfmt.d} \
        "$1"/usr/lib/*/gconv "$1"/usr/lib/python3*/{lib2to3,pydoc_data}
}

# What the maintainer scripts of these packages and of the base system would leave.
finish() {
    for applet in $("$1/usr/bin/busybox" --list); do
        [ -e "$1/usr/bin/$applet" ] || ln -s busybox "$1/usr/bin/$applet"
    done
    find "$1/usr/share/ca-certificates" -name '*.crt' -print0 | sort -z |
        xargs -0 cat >"$1/etc/ssl/certs/ca-certificates.crt"
    mkdir -p "$1/usr/lib/ssl"
    ln -s /etc/ssl/certs "$1/usr/lib/ssl/certs"
    ln -s /etc/ssl/certs/ca-certificates.crt "$1/usr/lib/ssl/cert.pem"
    cp /etc/os-release "$1/etc/os-release"
    echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'yard:x:10001:10001::/tmp:/bin/sh' \
        'nobody:x:65534:65534::/nonexistent:/bin/false' >"$1/etc/passwd"
    printf '%s\n' 'root:x:0:' 'yard:x:10001:' 'nogroup:x:65534:' >"$1/etc/group"
}

# Runs the new Python with its own loader and libraries, which saves a chroot and therefore root.
compile() {
    loader=$(find "$1"/usr/lib*/ -maxdepth 2 -name 'ld-linux*.so.*' | head -n 1)
    stdlib=$(find "$1/usr/lib" -maxdepth 1 -name 'python3.*')
    PYTHONHOME=$1/usr "$loader" --library-path "$1/usr/lib/$(gcc_triplet "$1")" \
        "$1/usr/bin/$(basename "$stdlib")" -m compileall -q -j 0 -s "$1" \
        --invalidation-mode unchecked-hash "$stdlib"
}

gcc_triplet() {
    basename "$(dirname "$(find "$1/usr/lib" -name 'libc.so.6' | head -n 1)")"
}

import() {
    have=$(docker image inspect -f '{{index .Config.Labels "modelyard.key"}}' "$2" 2>/dev/null || true)
    if [ "$have" != "$key" ]; then
        step "importing the base image $2" \
            docker import -c 'CMD ["python3"]' -c "LABEL modelyard.key=$key" \
            -c 'ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1' "$1" "$2"
    fi
    echo "$2"
}

main "$@"
