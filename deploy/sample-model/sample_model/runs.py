"""What `POST /run` accepts and what it does with it."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

RESULTS = "results.json"
INLINE = ("text", "data_base64")


class Unacceptable(Exception):
    """The request cannot be carried out as it is; the text says what to change."""


class Model(Protocol):
    def classify(self, data: bytes) -> dict[str, Any]: ...
    def classify_file(self, path: Path) -> dict[str, Any]: ...


def run(model: Model, request: Any) -> dict[str, Any]:
    """Inline input gives the class; `type: file` gives one class per file and writes them too.

    Raises Unacceptable.
    """
    if not isinstance(request, dict):
        raise Unacceptable("The body must be a JSON object.")
    if request.get("type") == "file":
        return _run_files(model, _folder(request, "input"), _folder(request, "output"))
    return model.classify(_inline(request))


def _inline(request: dict[str, Any]) -> bytes:
    given = [name for name in INLINE if name in request]
    if len(given) != 1:
        raise Unacceptable(
            'Give exactly one of "text" and "data_base64", or "type": "file" with "input" and '
            '"output".'
        )
    value = request[given[0]]
    if not isinstance(value, str):
        raise Unacceptable(f'"{given[0]}" must be a string.')
    return _decoded(value) if given[0] == "data_base64" else _encoded(value)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unacceptable(f'"data_base64" is not base64: {error}.') from error


def _encoded(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise Unacceptable(f'"text" holds a lone surrogate: {error.reason}.') from error


def _folder(request: dict[str, Any], name: str) -> Path:
    value = request.get(name)
    if not isinstance(value, str) or not value or "\0" in value:
        raise Unacceptable(f'"{name}" must be the path of a folder.')
    return Path(value)


def _run_files(model: Model, source: Path, target: Path) -> dict[str, Any]:
    try:
        files = sorted(_files_below(source))
        if not files:
            raise Unacceptable(f"{source} holds no file.")
        results = {str(path.relative_to(source)): model.classify_file(path) for path in files}
        target.mkdir(parents=True, exist_ok=True)
        (target / RESULTS).write_text(json.dumps(results, indent=1))
    except OSError as error:
        raise Unacceptable(f"{error.filename}: {error.strerror}.") from error
    return results


def _files_below(folder: Path) -> Iterator[Path]:
    """Raises OSError for a folder that is missing or that we may not read."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)
