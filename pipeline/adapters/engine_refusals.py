"""What an engine means when it refuses: read from the status and the words of its answer."""

from __future__ import annotations

import re

from requests import Response

from pipeline.errors import (
    AlreadyExists,
    ContainerMissing,
    DiskFull,
    EngineUnavailable,
    ImageMissing,
    PathMissing,
    PortTaken,
    YardError,
)


def refusal(answer: Response, fallback: type[YardError]) -> YardError:
    """What a status of 400 and above means; `fallback` where the engine's words say no more."""
    return explain(answer.status_code, message_of(answer), fallback)


def message_of(answer: Response) -> str:
    try:
        return str(answer.json()["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:500]


def explain(status: int, message: str, fallback: type[YardError]) -> YardError:
    """`status` 0: an error in the middle of a stream that began well."""
    lower = message.lower()
    for statuses, words, kind, advice in _MEANINGS:
        if (not statuses or status in statuses) and re.search(words, lower):
            return kind(advice.format(message=message), engine=message)
    return fallback(f"The engine refused: {message or f'status {status}'}", engine=message)


_MEANINGS: tuple[tuple[tuple[int, ...], str, type[YardError], str], ...] = (
    (
        (),
        r"no space left on device|disk quota exceeded",
        DiskFull,
        "The engine's disk is full: free space on the node, then try again.",
    ),
    (
        (),
        r"port is already allocated|address already in use",
        PortTaken,
        "A host port is in use already: choose another. ({message})",
    ),
    ((409,), r"already in use by container", AlreadyExists, "{message}"),
    (
        (409,),
        r"marked for removal|is already in progress|is dead",
        ContainerMissing,
        "The container is being removed.",
    ),
    ((404,), r"no such container", ContainerMissing, "The engine has no such container."),
    ((404,), r"no such image", ImageMissing, "The image is not on the engine: pull it first."),
    ((404,), r"could not find the file", PathMissing, "The container has no such path."),
    ((503,), r"", EngineUnavailable, "The engine is not ready: {message}"),
)
