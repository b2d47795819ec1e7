"""Tiny images that are models: a shell script answers GET /status, POST /run and POST /shutdown.

What they answer is told by their environment, so every behaviour is an image of its own.
"""

from __future__ import annotations

import gzip
import json

from tests.support.archives.images import Layer, TinyImage, busybox_image, busybox_layer, canonical
from tests.support.archives.tars import Tar

APPLETS = ("nc", "sed", "mkdir", "ls", "chmod", "tr")

MAIN = """\
#!/bin/sh
trap 'exit 0' TERM
trap 'echo ended as asked; exit 0' USR1
echo "starting on port $PSC_MODEL_PORT"
echo "a warning" >&2
sleep ${LISTEN_AFTER:-0}
[ -n "$EXIT_CODE" ] && { echo "cannot go on"; exit $EXIT_CODE; }
[ -n "$WELL_AFTER" ] && (sleep $WELL_AFTER; : > /well) &
[ -z "$DEAF" ] && nc -ll -p $PSC_MODEL_PORT -e /model/answer &
while :; do sleep 3600 & wait $!; done
"""

ANSWER = """\
#!/bin/sh
answer() {
    printf 'HTTP/1.1 %s X\\r\\nContent-Type: %s\\r\\n' "$1" "$2"
    [ "$path" = /run ] && [ -n "$RUN_HEADER" ] && printf '%s\\r\\n' "$RUN_HEADER"
    printf 'Content-Length: %s\\r\\nConnection: close\\r\\n\\r\\n%s' "${#3}" "$3"
}
read -r method path rest
length=0
while read -r line; do
    line=$(printf '%s' "$line" | tr -d '\\r')
    [ -z "$line" ] && break
    case "$line" in [Cc]ontent-[Ll]ength:*) length=${line#*: } ;; esac
done
body=""
[ "$length" -gt 0 ] && body=$(head -c "$length")
case "$method $path" in
"GET /status")
    sleep ${STATUS_DELAY:-0}
    [ -n "$WELL_AFTER" ] && [ ! -e /well ] && answer 202 application/json '{"ok": false}' && exit
    well='{"ok": true}'
    answer ${STATUS_CODE:-200} "${STATUS_TYPE:-application/json}" "${STATUS_BODY-$well}"
    ;;
"POST /run")
    sleep ${RUN_DELAY:-0}
    [ -n "$WELL_AFTER" ] && [ ! -e /well ] && answer 500 text/plain "too early" && exit
    input=$(echo "$body" | sed -n 's/.*"input": *"\\([^"]*\\)".*/\\1/p')
    output=$(echo "$body" | sed -n 's/.*"output": *"\\([^"]*\\)".*/\\1/p')
    if [ -n "$input" ] && [ -z "$WRITE_NOTHING" ]; then
        for file in "$input"/*; do read="$read${file##*/}=$(cat "$file");"; done
        quoted=$(printf '%s' "$read" | sed 's/"/\\\\"/g')
        printf '{"read": "%s"}' "$quoted" > "$output/${WRITE:-results.json}"
        [ -n "$WRITE_TOO" ] && printf '%s' "not json" > "$output/$WRITE_TOO"
    fi
    answer ${RUN_CODE:-200} "${RUN_TYPE:-application/json}" "${RUN_BODY-$body}"
    ;;
"POST /shutdown")
    answer 200 application/json '{"bye": true}'
    [ -z "$STUBBORN" ] && kill -USR1 1
    ;;
*)
    answer 404 application/json '{"none": true}'
    ;;
esac
"""


def model_image(
    *, labels: dict[str, str] | None = None, platform: str = "linux/amd64", **env: str
) -> TinyImage:
    """One that is well unless `env` says otherwise."""
    plain = busybox_image(
        command=("sh", "/model/main"), env=env, labels=labels, ports=(), platform=platform
    )
    layer = _layer()
    config = json.loads(plain.config)
    config["rootfs"]["diff_ids"].append(layer.diff_id)
    config["history"].append({"created": "2024-01-01T00:00:00Z", "created_by": "test"})
    return TinyImage(canonical(config), (busybox_layer(), layer))


def _layer() -> Layer:
    with Tar() as tar:
        for applet in APPLETS:
            tar.link(f"bin/{applet}", "busybox")
        tar.add("model/main", MAIN.encode(), mode=0o755)
        tar.add("model/answer", ANSWER.encode(), mode=0o755)
    return Layer(tar.content, gzip.compress(tar.content, mtime=0))
