"""ETag, If-Match and If-None-Match: a record's revision is its entity tag."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header

from pipeline.errors import StaleRevision
from schemas.base import Record

_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*')
_TAGS = r'^\s*(\*|(W/)?"[^"]*"(\s*,\s*(W/)?"[^"]*")*)\s*$'
_REVISION = re.compile(r"[0-9]{1,18}")

IfMatch = Annotated[
    str | None,
    Header(
        pattern=_TAGS,
        description="Do it only if the record is still the one with this ETag; else 412.",
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(description="Answer 304 if the record is still the one with this ETag.")
]


def etag(record: Record) -> str:
    return f'"{record.revision}"'


def is_unchanged(record: Record, if_none_match: str | None) -> bool:
    return is_current(str(record.revision), if_none_match)


def is_current(tag: str, if_none_match: str | None) -> bool:
    """Whether the caller has what goes by `tag`. Weak comparison, as If-None-Match asks for."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or any(value == tag for _, value in _tags(if_none_match))


async def expected_revision(
    if_match: str | None, load: Callable[[], Awaitable[Record]]
) -> int | None:
    """The revision that the record must have, or None when any will do.

    `load` is asked only when several tags are given. Raises StaleRevision when none can match.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    wanted = {int(tag) for weak, tag in _tags(if_match) if not weak and _REVISION.fullmatch(tag)}
    if len(wanted) > 1:
        wanted &= {(await load()).revision}
    if not wanted:
        raise StaleRevision("The record has changed: read it again and use its new ETag.")
    return wanted.pop()


def _tags(header: str) -> list[tuple[bool, str]]:
    """Each tag, and whether it is a weak one. What is no tag matches nothing."""
    matches = [_TAG.fullmatch(part) for part in header.split(",")]
    return [(match[1] is not None, match[2]) for match in matches if match]
