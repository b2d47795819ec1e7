#!/usr/bin/env bash
# Fetches what a requirements file names, as wheels for the base image's Python, with the host's own
# pip configuration, so that an image build needs no network. Prints the folder.
#
#   deploy/base/wheels.sh requirements.txt
#
# PYTHON names an interpreter with pip (default python3). The folder lies under MODELYARD_CACHE and
# is named by a hash of the file, the release and the machine; a second run fetches nothing. Folders that
# were not used for 30 days go.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$1
cache=${MODELYARD_CACHE:-$HOME/.cache/modelyard}
# The release's own Python: the base image holds the same one, so that pip picks fitting wheels.
python=/usr/bin/python3

[ -x "$python" ] || { echo "$python is missing: run \`apt-get install python3\`." >&2; exit 1; }
# shellcheck source=deploy/base/steps.sh
. "$here/steps.sh"
key=$( (cat "$here/pip.txt" "$requirements" && "$python" -VV && uname -m) | sha256sum | cut -c1-16)
folder=$cache/wheels-$key
if [ ! -d "$folder" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/wheels.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    options=(--quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all:)
    step "fetching pip" \
        "${PYTHON:-python3}" -m pip download "${options[@]}" -d "$work" -r "$here/pip.txt"
    # A wheel is a zip file: Python runs what lies in it.
    step "fetching the packages of $requirements" "$python" "$(echo "$work"/pip-*.whl)/pip" \
        download "${options[@]}" -d "$work" -r "$requirements"
    chmod 755 "$work"
    # Two at once make the same: the second one's move fails and its copy goes.
    mv -T "$work" "$folder" 2>/dev/null || [ -d "$folder" ]
fi
touch "$folder"
find "$cache" -maxdepth 1 -name 'wheels-*' -mtime +30 -exec rm -rf {} +
echo "$folder"
