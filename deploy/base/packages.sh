# shellcheck shell=bash
# Sourced by bash scripts: takes packages of the host's own Debian or Ubuntu release apart
# into a folder, without a chroot, without root and without another tool than apt and tar.
#
# Where packages come from is apt's own configuration; apt also checks their signatures. Their
# maintainer scripts do not run: build.sh does by hand what the few that matter would do.

# An empty status makes apt resolve the whole closure instead of what this host lacks.
apt_fresh() {
    apt-get -q -y -o Dir::State::status=/dev/null -o Debug::NoLocking=1 \
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}

# resolve PACKAGE… prints one line per package of the closure: file name, size, checksum.
resolve() {
    local found
    # apt keeps silent about files that lie in its archive folder already: show it an empty one.
    if ! found=$(apt_fresh -o Dir::Cache::archives=/nonexistent --print-uris install "$@" 2>&1); then
        printf '%s\n' "$found" >&2
        return 1
    fi
    printf '%s\n' "$found" | sed -n "s/^'[^']*' \([^ ]*\.deb [0-9]* .*\)$/\1/p"
}

# freshly COMMAND…: once more with new package lists when it fails, for old lists name files that
# are gone.
freshly() {
    "$@" && return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "Are apt's lists old? Run \`apt-get update\` as root, or name a ready image." >&2
        return 1
    fi
    echo "reading apt's lists anew" >&2
    apt-get update -qq >&2 && "$@"
}

# download ARCHIVES PACKAGE… fetches what ARCHIVES lacks and leaves the list of all in its `closure`.
download() {
    local archives=$1
    shift
    resolve "$@" >"$archives/closure" || return 1
    apt_fresh -qq -o Dir::Cache::archives="$archives" --download-only install "$@"
}

# unpack ARCHIVES ROOT SKIP PACKAGE… downloads what ARCHIVES lacks and lays the files out under
# ROOT. SKIP is an extended regular expression of package names to leave out.
unpack() {
    local archives=$1 root=$2 skip=$3 name deb
    shift 3
    # Each failure is handed on by hand: a caller that tests our outcome switches `set -e` off.
    mkdir -p "$archives/partial" "$root/var/lib/dpkg/status.d" || return 1
    freshly download "$archives" "$@" || return 1
    while read -r deb _; do
        name=${deb%%_*}
        if printf '%s' "$name" | grep -qxE "$skip"; then continue; fi
        dpkg-deb --fsys-tarfile "$archives/$deb" |
            tar -x -C "$root" --no-same-owner --keep-directory-symlink || return 1
        # What scanners read to learn which packages an image holds.
        dpkg-deb -f "$archives/$deb" >"$root/var/lib/dpkg/status.d/$name" || return 1
    done <"$archives/closure"
}
