"""The document of a registry entry: its fields, their rules, and what a caller gets to see."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import InvalidInput

PREFIX = "container_registry_"
ID = f"{PREFIX}id"
URL = f"{PREFIX}public_url"
SECRET = f"{PREFIX}secret"
HEALTH = f"{PREFIX}health"

READ_ONLY = frozenset({HEALTH, "created_at", "updated_at"})

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_STORAGE_TYPES = ("s3", "object-store", "fs", "unknown")
_REGISTRY_TYPES = ("aios", "external")


def document_of(body: Any, *, default_id: str) -> dict[str, Any]:
    """A new entry's document: known fields only, defaults filled in, every rule checked.

    Raises InvalidInput; its message names the field.
    """
    if not isinstance(body, dict):
        raise InvalidInput("The request body must be a JSON object.")
    document = defaults() | {name: body[name] for name in FIELDS if name in body}
    document.setdefault(ID, default_id)
    validate(document)
    return document


def defaults() -> dict[str, Any]:
    """What an absent field reads as. The id and the URL have no default."""
    return {
        f"{PREFIX}name": "",
        f"{PREFIX}metadata": {},
        f"{PREFIX}config": {},
        f"{PREFIX}tags": [],
        f"{PREFIX}image_prefix": "",
        f"{PREFIX}storage_info": {},
        SECRET: None,
    }


def validate(document: Mapping[str, Any]) -> None:
    """Every rule of the document; a wrong type is never coerced. Raises InvalidInput."""
    for name, check in FIELDS.items():
        if name not in document:
            raise InvalidInput(f"{name} is required.", field=name)
        check(name, document[name])


def host_of(public_url: str) -> str:
    """`host[:port]` as references name it; the default port of the scheme is left out."""
    parts = urlsplit(public_url)
    default = {"http": 80, "https": 443}[parts.scheme]
    host = (parts.hostname or "").lower()
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if parts.port in (None, default) else f"{bracketed}:{parts.port}"


def _check_id(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidInput(
            f"{name} must be 1 to 128 letters, digits, '.', '_', ':' or '-'.", field=name
        )


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > 255:
        raise InvalidInput(f"{name} must be a string of at most 255 characters.", field=name)


def _check_tags(name: str, value: Any) -> None:
    if not isinstance(value, list) or len(value) > 100:
        raise InvalidInput(f"{name} must be an array of at most 100 strings.", field=name)
    if any(not isinstance(tag, str) or not 1 <= len(tag) <= 128 for tag in value):
        raise InvalidInput(f"{name}: each tag must be a string of 1 to 128 characters.", field=name)


def _check_object(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must be an object.", field=name)
    _check_keys(name, value)


def _check_keys(name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_keys(name, item)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if not key or key.startswith("$") or "." in key:
            raise InvalidInput(
                f"{name}: the key {key!r} may not be empty, begin with '$' or contain '.'.",
                field=name,
            )
        _check_keys(name, inner)


def _check_storage(name: str, value: Any) -> None:
    _check_object(name, value)
    for key, allowed in (("storage_type", _STORAGE_TYPES), ("registry_type", _REGISTRY_TYPES)):
        if key in value and value[key] not in allowed:
            raise InvalidInput(f"{name}.{key} must be one of {', '.join(allowed)}.", field=name)
    for key in ("storage_size", "memory_size"):
        number = value.get(key, -1)
        if not isinstance(number, int) or isinstance(number, bool) or number < -1:
            raise InvalidInput(f"{name}.{key} must be an integer of at least -1.", field=name)


def _check_url(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > 2048:
        raise InvalidInput(f"{name} must be a string of at most 2048 characters.", field=name)
    wrong = InvalidInput(
        f"{name} must be an absolute http or https URL without user info, query or fragment.",
        field=name,
    )
    if any(character <= " " or character == "\x7f" or character == "\\" for character in value):
        raise wrong
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise wrong
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise wrong


def _check_secret(name: str, value: Any) -> None:
    if value is None:
        return
    try:
        valid = isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        valid = False
    if not valid:
        raise InvalidInput(f"{name} must be the UUID of a registry secret, or null.", field=name)


FIELDS: dict[str, Callable[[str, Any], None]] = {
    ID: _check_id,
    f"{PREFIX}name": _check_text,
    f"{PREFIX}metadata": _check_object,
    f"{PREFIX}config": _check_object,
    f"{PREFIX}tags": _check_tags,
    URL: _check_url,
    f"{PREFIX}image_prefix": _check_text,
    f"{PREFIX}storage_info": _check_storage,
    SECRET: _check_secret,
}
"""The caller's own fields, in the order in which they are shown."""
