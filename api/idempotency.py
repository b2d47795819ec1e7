"""Idempotency-Key: the same request with the same key is carried out once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

REPLAYED = "Idempotency-Replayed"
"""`true` in the answer to a repeat: the record is the one that the first request made."""

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        description="Any printable ASCII of your own, for instance a UUID. A repeat with the same"
        " key and body gets the record of the first request, with another body 422.",
    ),
]
