"""The document of a registry entry: its fields, their rules, and what a caller gets to see."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import AddressRefused, InvalidInput, InvalidReference
from pipeline.rules import addresses, references
from pipeline.rules.update_tree import UpdateFields

PREFIX = "container_registry_"
ID = f"{PREFIX}id"
URL = f"{PREFIX}public_url"
SECRET = f"{PREFIX}secret"
HEALTH = f"{PREFIX}health"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_STEPS = frozenset({".", ".."})
"""Clients leave them out of a path before they send it."""
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_NETLOC = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_STORAGE_TYPES = ("s3", "object-store", "fs", "unknown")
_REGISTRY_TYPES = ("aios", "external")


def document_of(body: Any, *, default_id: str) -> dict[str, Any]:
    """A new entry's document: known fields only, defaults filled in, every rule checked.

    Raises InvalidInput; its message names the field.
    """
    if not isinstance(body, dict):
        raise InvalidInput("The request body must be a JSON object.")
    return completed({ID: default_id} | {name: body[name] for name in FIELDS if name in body})


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The document in its one spelling: in order, defaults filled in, every rule checked.

    Raises InvalidInput.
    """
    document = defaults() | dict(given)
    validate(document)
    if document[SECRET] is not None:
        document[SECRET] = str(uuid.UUID(document[SECRET]))
    return {name: document[name] for name in FIELDS}


def shown(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What callers see of a stored entry, in JSON types. Nothing else of it is read.

    Fields that are newer than the entry read as their defaults.
    """
    whole = defaults() | dict(stored)
    document = {name: whole[name] for name in FIELDS}
    health = stored.get(HEALTH)
    document[HEALTH] = None if health is None else shown_health(health)
    document["created_at"] = _time(stored["created_at"])
    document["updated_at"] = _time(stored["changed_at"])
    return document


def shown_health(health: Mapping[str, Any]) -> dict[str, Any]:
    return {**health, "checked_at": _time(health["checked_at"])}


def is_id(text: str) -> bool:
    """Whether an entry may be called so; for any other text there is nothing to look up."""
    return _ID.fullmatch(text) is not None


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
    host = _netloc(urlsplit(public_url))
    try:
        return references.registry_host(host)
    except InvalidReference:
        return host


def hosts_of(public_url: str) -> tuple[str, ...]:
    """The names that a secret's server may have for it: with the default port of `http`, too."""
    host = host_of(public_url)
    parts = urlsplit(public_url)
    is_default = parts.port in (None, _DEFAULT_PORTS[parts.scheme])
    return (host, f"{host}:80") if is_default and parts.scheme == "http" else (host,)


def address_of(public_url: str) -> str:
    """The URL in the spelling in which it is asked: lower-case host, no default port, no `/`
    at the end."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{_netloc(parts)}{parts.path.rstrip('/')}"


def refuse_forbidden_address(public_url: str, *, allow_local: bool) -> None:
    """Names are judged when they are resolved; a literal address is judged here.

    Raises InvalidInput.
    """
    host = urlsplit(public_url).hostname or ""
    try:
        spelled = addresses.literal(host)
        if spelled is not None:
            addresses.check(host, [spelled], allow_local=allow_local)
    except AddressRefused as error:
        raise InvalidInput(f"{URL}: {error.message}", field=URL) from error


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _netloc(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    bracketed = f"[{host}]" if ":" in host else host
    default = _DEFAULT_PORTS[parts.scheme]
    return bracketed if parts.port in (None, default) else f"{bracketed}:{parts.port}"


def _check_id(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value) or value in _STEPS:
        told = f"{name} must be 1 to 128 letters, digits, '.', '_', ':' or '-', not '.' or '..'."
        raise InvalidInput(told, field=name)


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
        if key in value and not (isinstance(value[key], str) and value[key] in allowed):
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
    if parts.scheme not in _DEFAULT_PORTS or not _is_host(parts.hostname or "") or port == 0:
        raise wrong
    # The parser overlooks what stands between an address in brackets and its port.
    if not _NETLOC.fullmatch(parts.netloc) or "?" in value or "#" in value:
        raise wrong


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


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

CHANGEABLE: Final = UpdateFields(
    writable=frozenset(FIELDS),
    deep=frozenset(f"{PREFIX}{name}" for name in ("metadata", "config", "storage_info", "tags")),
    fixed=frozenset({ID}),
)
"""What an update may name."""
