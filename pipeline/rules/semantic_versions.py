"""Versions of models: Semantic Versioning 2.0.0."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from pipeline.errors import InvalidInput

MAX_LENGTH: Final = 100
"""The version becomes a tag in the registry, which may have 128 characters."""

_NUMBER = r"(0|[1-9]\d{0,17})"
_IDENTIFIER = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)

Precedence: TypeAlias = tuple[int, int, int, tuple[tuple[bool, int, str], ...], str]


def require(text: str) -> str:
    """`text`, when it is a version. Raises InvalidInput."""
    if len(text) > MAX_LENGTH or not _VERSION.fullmatch(text):
        raise InvalidInput(
            f"{text[:MAX_LENGTH]!r} is not a semantic version: write it like 1.0.0.",
            field="version",
        )
    return text


def precedence(text: str) -> Precedence:
    """Sorts versions from old to new; build metadata only breaks ties."""
    found = _VERSION.fullmatch(text)
    assert found is not None, "only versions that passed `require` are sorted"
    major, minor, patch, before, build = found.groups()
    # A release comes after all its pre-releases.
    parts = tuple(map(_identifier, before.split("."))) if before else ((True, 0, "\uffff"),)
    return int(major), int(minor), int(patch), parts, build or ""


def tag(version: str) -> str:
    """The version as the tag of an image."""
    return version.replace("+", "_")


def _identifier(text: str) -> tuple[bool, int, str]:
    """Numbers come before words, and by value."""
    return (False, int(text), "") if text.isdigit() else (True, 0, text)
