"""JSON from strangers: what the store or another reader could not hold is refused at the door."""

from __future__ import annotations

import json
import math
from typing import Any

from pipeline.errors import InvalidInput

INT64 = range(-(2**63), 2**63)


def parse(body: bytes, *, depth: int = 100) -> Any:
    """The value of a JSON text in UTF-8.

    Raises InvalidInput for an empty or malformed text, nesting past `depth`, `NaN` and
    `Infinity`, lone surrogates, NUL characters and integers beyond 64 bits.
    """
    if not body.strip():
        raise InvalidInput("The request body is empty: send JSON.")
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant, parse_int=_bounded)
    except RecursionError:
        raise InvalidInput(f"The JSON is nested deeper than {depth} levels.") from None
    except UnicodeDecodeError:
        raise InvalidInput("The request body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"The request body is not valid JSON: {error.msg} at line {error.lineno} column"
            f" {error.colno}."
        ) from None
    _inspect(value, depth)
    return value


def _refuse_constant(text: str) -> Any:
    raise InvalidInput(f"{text} is not JSON: use a number or null.")


def _bounded(text: str) -> int:
    # Longer than any 64-bit integer: refused before the conversion, which is quadratic.
    if len(text) > 20 or (number := int(text)) not in INT64:
        raise InvalidInput("An integer is beyond 64 bits: send it as a string.")
    return number


def _inspect(value: Any, depth: int) -> None:
    """Walks without recursion, so that depth is a rule and not the interpreter's limit."""
    level = [value]
    for depth_here in range(depth + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        for item in level:
            _refuse_unstorable(item)
        if not containers:
            return
        if depth_here == depth:
            break
        level = [part for container in containers for part in _parts(container)]
    raise InvalidInput(f"The JSON is nested deeper than {depth} levels.")


def _parts(container: dict[str, Any] | list[Any]) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container


def _refuse_unstorable(item: Any) -> None:
    if isinstance(item, float) and not math.isfinite(item):
        raise InvalidInput("A number is too large.")
    if isinstance(item, str) and "\x00" in item:
        raise InvalidInput("A string holds a NUL character: remove it.")
    if isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item):
        raise InvalidInput("A string holds a lone surrogate, which is not a character.")
