# shellcheck shell=bash
# Sourced by bash scripts: steps that say one line when they begin, and everything when they fail.

# Without an engine of the user's own it is that of the embedded stack, whose env file names it.
if [ -n "${MODELYARD_ENGINE:-}" ]; then export DOCKER_HOST=${DOCKER_HOST:-$MODELYARD_ENGINE}; fi

# step SAYING COMMAND…: SAYING goes to stderr; what COMMAND writes is shown only when it fails.
step() {
    local said=$1 output
    shift
    printf '%s\n' "$said" >&2
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output" >&2
        return 1
    fi
}

# image_build TAG CONTEXT OPTION…: a local base is known to the engine only, so no other builder
# than the engine's will do; and no step needs a network.
image_build() {
    local tag=$1 context=$2
    shift 2
    BUILDX_BUILDER=default step "building the image $tag" \
        docker build -q --network none -t "$tag" "$@" "$context"
}
