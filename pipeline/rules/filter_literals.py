"""The parts that every operator of a filter has in common: literals, lists of them, paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.errors import InvalidInput
from pipeline.rules import strict_json
from pipeline.rules.strict_json import Json

PATH_SEGMENTS: Final = 100


@dataclass(frozen=True, slots=True)
class Limits:
    depth: int = 10
    """Operators and literals inside one another."""
    elements: int = 100
    """In each list that an operator takes."""
    pattern_chars: int = 256
    body_bytes: int = 64 * 1024


def refuse(where: str, why: str) -> InvalidInput:
    shown = where if len(where) <= 100 else where[:100] + "…"
    return InvalidInput(f"{shown}: {why}", path=shown)


def literal(value: Json, where: str, depth: int, limits: Limits) -> Json:
    """`value` itself. Raises InvalidInput for operators, other types and too much nesting."""
    if isinstance(value, dict | list):
        deeper(depth, where, limits)
        if isinstance(value, dict):
            for key in value:
                if key.startswith("$"):
                    raise refuse(where, f"{key[:50]} is not allowed inside a value.")
                strict_json.check_text(key)
        for each in value.values() if isinstance(value, dict) else value:
            literal(each, where, depth + 1, limits)
    else:
        strict_json.check(value)
    return value


def literals(value: Json, where: str, depth: int, limits: Limits) -> tuple[Json, ...]:
    """The elements of a list that an operator takes."""
    checked = elements(value, where, limits)
    return tuple(literal(each, where, depth + 1, limits) for each in checked)


def elements(value: Json, where: str, limits: Limits) -> list[Json]:
    if not isinstance(value, list):
        raise refuse(where, "it takes an array.")
    if len(value) > limits.elements:
        raise refuse(where, f"it takes at most {limits.elements} elements, not {len(value)}.")
    return value


def deeper(depth: int, where: str, limits: Limits) -> None:
    if depth >= limits.depth:
        raise refuse(where, f"the filter is nested deeper than {limits.depth} levels.")


def segments(path: str) -> list[str]:
    """Of a dotted path. Raises InvalidInput for empty, `$`-led and too many segments."""
    parts = path.split(".")
    strict_json.check_text(path)
    if len(parts) > PATH_SEGMENTS:
        raise refuse(path, f"a path has at most {PATH_SEGMENTS} segments.")
    for part in parts:
        if not part:
            raise refuse(path, "a path has no empty segments.")
        if part.startswith("$"):
            raise refuse(path, f"{part[:50]} is not allowed in a path.")
    return parts
