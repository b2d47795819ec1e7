"""What schemathesis is told besides the document; it loads this file itself."""

from __future__ import annotations

import re
from typing import Any

import requests
import schemathesis

_send = requests.Session.send


def _send_and_begin(self: Any, request: Any, **options: Any) -> Any:
    """An event stream has no end: of it the beginning is looked at."""
    answer = _send(self, request, **options | {"stream": True})
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer._content = next(answer.iter_content(64 * 1024), b"")
        answer._content_consumed = True
        answer.close()
    return answer


requests.Session.send = _send_and_begin  # type: ignore[method-assign]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leave out headers of valid cases that do not match their patterns.

    Where it knows no text for a pattern it sends `0`.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for header in case.operation.headers:
        pattern = header.definition.get("schema", {}).get("pattern")
        value = (case.headers or {}).get(header.name)
        if pattern and value is not None and not re.search(pattern, str(value)):
            del case.headers[header.name]


@schemathesis.serializer("application/offset+octet-stream", "application/x-tar", "application/gzip")
def octets(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
