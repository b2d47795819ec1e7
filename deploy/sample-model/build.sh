#!/usr/bin/env bash
# Builds the sample model's image without pulling anything, prints the path of its TAR.
#
#   deploy/sample-model/build.sh            the TAR (docker save); an engine is asked only when the
#                                           TAR is not there yet
#   deploy/sample-model/build.sh --load     the image is in the engine of DOCKER_HOST as well, under
#                                           the name modelyard/sample-model:1.0.0
#
# The TAR is kept under MODELYARD_CACHE (default ~/.cache/modelyard), named by a hash of all that
# goes into it. PYTHON names an interpreter with pip (default python3).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
base=$here/../base
cache=${MODELYARD_CACHE:-$HOME/.cache/modelyard}
# shellcheck source=deploy/base/steps.sh
. "$base/steps.sh"
image=modelyard/sample-model:1.0.0

main() {
    mkdir -p "$cache"
    exec 9>"$cache/sample-model.lock"
    flock 9
    # The key of the base tells its packages.
    key=$( ("$base/build.sh" --key && sources && cat "$base/pip.txt") | sha256sum | cut -c1-16)
    tar=$cache/sample-model-$key.tar
    if [ ! -s "$tar" ]; then
        build "$@"
    elif [ "${1:-}" = --load ]; then
        step "loading the image $image" docker load -i "$tar"
    fi
    echo "$tar"
}

sources() { (cd "$here" && cat Dockerfile requirements.txt sample_model/*.py); }

build() {
    context=$(mktemp -d "$cache/sample-model.XXXXXX")
    trap 'rm -rf "$context"' EXIT
    cp -r "$here/Dockerfile" "$here/.dockerignore" "$here/requirements.txt" "$here/sample_model" \
        "$context"
    ln "$("$base/wheels.sh" "$here/requirements.txt")"/*.whl "$context"
    image_build "$image" "$context" --build-arg BASE="$("$base/build.sh")"
    rm -f "$cache"/sample-model-*.tar
    step "saving the image" docker save -o "$context/image.tar" "$image"
    chmod 644 "$context/image.tar"
    mv "$context/image.tar" "$tar"
    # What the classic builder leaves of the first stage.
    step "tidying up" docker image prune -f --filter label=modelyard.stage=packages
    if [ "${1:-}" != --load ]; then docker image rm "$image" >/dev/null; fi
}

main "$@"
