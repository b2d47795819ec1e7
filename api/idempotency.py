"""Idempotency-Key: the same request with the same key is carried out once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from pipeline.errors import InvalidInput

MAX_LENGTH = 255
REPLAYED = "Idempotency-Replayed"
"""`true` in the answer to a repeat: the record is the one that the first request made."""


async def checked_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Any string of your own, for instance a UUID. A repeat with the same key"
            " and body gets the record of the first request, with another body 422."
        ),
    ] = None,
) -> str | None:
    if idempotency_key is None:
        return None
    key = idempotency_key.strip()
    if not 0 < len(key) <= MAX_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            f"An Idempotency-Key is 1 to {MAX_LENGTH} printable ASCII characters.",
            field="Idempotency-Key",
        )
    return key


Key = Annotated[str | None, Depends(checked_key)]
