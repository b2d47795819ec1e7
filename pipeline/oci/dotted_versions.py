"""Versions as dotted integers: drivers, CUDA, compute capabilities."""

from __future__ import annotations

import re

from pipeline.errors import InvalidInput
from schemas.image import Needs

Version = tuple[int, ...]

_LEADING = re.compile(r"\s*(\d+(?:\.\d+)*)")


def parse(text: str | None) -> Version | None:
    """The leading dotted integers, so that `550.54.14-server` is a version and `11` is `11.0`.

    None when there are none.
    """
    found = _LEADING.match(text or "")
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def reaches(actual: str | None, required: str | None) -> bool:
    """Is `actual` known and at least `required`? Anything reaches no requirement."""
    least = parse(required)
    if least is None:
        return True
    known = parse(actual)
    return known is not None and known >= least


def require_versions(needs: Needs) -> None:
    """Raises InvalidInput for a version that cannot be compared with any other."""
    for field in ("driver", "cuda", "compute_capability"):
        version = getattr(needs, field)
        if version and parse(version) is None:
            raise InvalidInput(
                f"{version!r} is no {field} version: use dotted integers.", field=f"needs.{field}"
            )
