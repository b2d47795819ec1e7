"""Values that callers send for the catalogue, read one by one; what is wrong with all of them is
told at once, by field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.errors import InvalidInput

REQUIRED: Final = "This field is required."
NULL: Final = "This field may not be null."
BLANK: Final = "This field may not be blank."
NO_STRING: Final = "Not a valid string."
NO_NUMBER: Final = "A valid number is required."
NO_BOOLEAN: Final = "Must be a valid boolean."
NO_LIST: Final = "Expected a list of items."
NO_URL: Final = "Enter a valid URL that begins with http:// or https://."
UNSTORABLE: Final = "Null characters and halves of surrogate pairs are not allowed."
NON_FIELD: Final = "non_field_errors"
"""What is said of a record as a whole."""

NUMBER_MAX: Final = 2**63
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_PK = re.compile(r"[0-9]{1,18}")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def refused(fields: Mapping[str, list[str]]) -> InvalidInput:
    """`facts["fields"]`: field → messages. No message repeats a value."""
    told = " ".join(f"{name}: {' '.join(messages)}" for name, messages in fields.items())
    return InvalidInput(told, fields=dict(fields))


def refused_whole(message: str) -> InvalidInput:
    return refused({NON_FIELD: [message]})


class Wrong(Exception):
    """Of one value; its text is the message."""


def text(value: Any, most: int, *, trimmed: bool = True) -> str:
    """Numbers become text. Raises Wrong."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Wrong(NO_STRING)
    if isinstance(value, float) and not math.isfinite(value):
        raise Wrong(NO_STRING)
    read = str(value).strip() if trimmed else str(value)
    if not read:
        raise Wrong(BLANK)
    if "\0" in read or any("\ud800" <= each <= "\udfff" for each in read):
        raise Wrong(UNSTORABLE)
    if len(read) > most:
        raise Wrong(f"Ensure this field has no more than {most} characters.")
    return read


def boolean(value: Any) -> bool:
    """Also 0 and 1, and words. Raises Wrong."""
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and (known := _BOOLEANS.get(value.strip().lower())) is not None:
        return known
    raise Wrong(NO_BOOLEAN)


def number(value: Any) -> float:
    """Also as text. Raises Wrong."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(NO_NUMBER)
    try:
        read = float(value)
    except (ValueError, OverflowError):
        raise Wrong(NO_NUMBER) from None
    if not abs(read) < NUMBER_MAX:
        raise Wrong(NO_NUMBER)
    return read


def decimal(value: Any) -> Decimal:
    """A number of at least 0, or its text, in plain digits. Raises Wrong."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Wrong(NO_NUMBER)
    written = value.strip() if isinstance(value, str) else str(value)
    if not _DECIMAL.fullmatch(written):
        raise Wrong(NO_NUMBER)
    return Decimal(written)


def version(value: Any) -> str:
    """A decimal with one place, as text. Raises Wrong."""
    read = decimal(value)
    if read != round(read, 1):
        raise Wrong("Ensure that there is no more than 1 decimal place.")
    return str(round(read, 1))


def url(value: Any, most: int) -> str:
    """Raises Wrong."""
    read = text(value, most)
    try:
        parts = urlsplit(read)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_one = False
    if not is_one or any(each.isspace() for each in read):
        raise Wrong(NO_URL)
    return read


def key(value: Any) -> int | None:
    """A primary key: an integer, or its digits; None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < NUMBER_MAX:
        return value
    if isinstance(value, str) and value.isascii() and _PK.fullmatch(value.strip()):
        return int(value)
    return None
