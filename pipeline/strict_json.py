"""JSON from callers, read so strictly that whatever comes out can be stored and compared."""

from __future__ import annotations

import json
import math
from typing import Any, Final, TypeAlias

from pipeline.errors import InvalidInput, TooLarge

Json: TypeAlias = Any
"""None, bool, int, float, str, list of these, or dict of str to these."""

MAX_DEPTH: Final = 64
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1


def read(body: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Json:
    """Raises TooLarge, and InvalidInput for anything that `check` refuses or that is no JSON."""
    if len(body) > max_bytes:
        raise TooLarge(f"The body has {len(body)} bytes; at most {max_bytes} are allowed.")
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidInput("The body is not JSON: send one JSON value in UTF-8.") from None
    check(value, max_depth=max_depth)
    return value


def check(value: Json, *, max_depth: int = MAX_DEPTH, depth: int = 0) -> None:
    """Raises InvalidInput for what the store cannot hold exactly, or at all."""
    if isinstance(value, list | dict) and depth >= max_depth:
        raise InvalidInput(f"The JSON is nested deeper than {max_depth} levels.")
    match value:
        case None | bool():
            pass
        case int():
            if not INT_MIN <= value <= INT_MAX:
                raise InvalidInput("Integers must fit into 64 bits.")
        case float():
            if not math.isfinite(value):
                raise InvalidInput("Numbers must be finite.")
        case str():
            check_text(value)
        case list():
            for each in value:
                check(each, max_depth=max_depth, depth=depth + 1)
        case dict():
            for key, each in value.items():
                check_text(key)
                check(each, max_depth=max_depth, depth=depth + 1)
        case _:
            raise InvalidInput(f"{type(value).__name__} is not a JSON type.")


def check_text(text: str) -> None:
    """Raises InvalidInput for NUL and for halves of surrogate pairs."""
    if "\0" in text:
        raise InvalidInput("Text must not contain NUL characters.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("Text must be Unicode: it holds half of a surrogate pair.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
