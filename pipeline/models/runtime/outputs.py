"""What a model gives: outputs by name, and how their contents are shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.errors import InvalidInput
from schemas.model import ModelOutput

RESULTS: Final = "results.json"
DEEPEST: Final = 200
"""Levels of what is shown as JSON: what nests deeper, not every reader can take apart again."""


def collect(
    declared: Sequence[ModelOutput], files: Mapping[str, bytes], answer: bytes
) -> dict[str, Any]:
    """The outputs by name; what is JSON is shown as JSON.

    A model may give its results in the answer to `POST /run` instead of a file. Raises
    InvalidInput when a declared output is missing.
    """
    outputs = {name: shown(content) for name, content in files.items()}
    if RESULTS not in outputs and answer.strip():
        outputs[RESULTS] = shown(answer)
    missing = [each.name for each in declared if each.name not in outputs]
    if missing:
        raise InvalidInput(f"The model did not write {', '.join(missing)} into the output folder.")
    return outputs


def shown(content: bytes) -> Any:
    """What a model gave: JSON as JSON, other text as text, and the rest as a data URL.

    What cannot be written as JSON again counts as text: numbers past all bounds, halves of
    surrogate pairs.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        encoded = base64.b64encode(content).decode()
        return f"data:application/octet-stream;base64,{encoded}"
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return text
    return value if _is_shallow(value) else text


def _is_shallow(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        within = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for items in within for each in items if isinstance(each, dict | list)]
        if not level:
            return True
    return False


def _refuse(constant: str) -> None:
    raise ValueError(constant)
