"""The document of a registry entry: its fields and their rules. Messages begin with the field."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pipeline import addresses
from pipeline.errors import AddressRefused, InvalidInput, InvalidReference
from pipeline.oci import references
from schemas.registries.registry import Registry

ID: Final = "id"
URL: Final = "public_url"
SECRET: Final = "secret"
HEALTH: Final = "health"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_STEPS = frozenset({".", ".."})
"""Clients leave them out of a path before they send it."""
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_NETLOC = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_STORAGE_TYPES = ("s3", "object-store", "fs", "unknown")
_REGISTRY_TYPES = ("aios", "external")


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The document in its one spelling: in order, defaults filled in, every rule checked.

    Raises InvalidInput.
    """
    document = defaults() | dict(given)
    validate(document)
    if document[SECRET] is not None:
        document[SECRET] = str(uuid.UUID(document[SECRET]))
    return {name: document[name] for name in FIELDS}


def document_of(registry: Registry) -> dict[str, Any]:
    """The caller's own fields."""
    return {name: getattr(registry, name) for name in FIELDS}


def shown_health(health: Mapping[str, Any]) -> dict[str, Any]:
    return {**health, "checked_at": shown_time(health["checked_at"])}


def shown_time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_id(text: str) -> bool:
    """Whether an entry may be called so; for any other text there is nothing to look up."""
    return _ID.fullmatch(text) is not None


def defaults() -> dict[str, Any]:
    """What an absent field reads as. The id and the URL have no default."""
    return {
        "name": "",
        "metadata": {},
        "config": {},
        "tags": [],
        "image_prefix": "",
        "storage_info": {},
        SECRET: None,
    }


def validate(document: Mapping[str, Any]) -> None:
    """Every rule of the document; a wrong type is never coerced. Raises InvalidInput."""
    for name, check in FIELDS.items():
        if name not in document:
            raise InvalidInput(f"{name} is required.", field=name)
        if told := check(document[name]):
            raise InvalidInput(name + told, field=name)


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


def _netloc(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    bracketed = f"[{host}]" if ":" in host else host
    default = _DEFAULT_PORTS[parts.scheme]
    return bracketed if parts.port in (None, default) else f"{bracketed}:{parts.port}"


def _wrong_id(value: Any) -> str | None:
    if isinstance(value, str) and _ID.fullmatch(value) and value not in _STEPS:
        return None
    return " must be 1 to 128 letters, digits, '.', '_', ':' or '-', not '.' or '..'."


def _wrong_text(value: Any) -> str | None:
    is_text = isinstance(value, str) and len(value) <= 255
    return None if is_text else " must be a string of at most 255 characters."


def _wrong_tags(value: Any) -> str | None:
    if not isinstance(value, list) or len(value) > 100:
        return " must be an array of at most 100 strings."
    are_tags = all(isinstance(tag, str) and 1 <= len(tag) <= 128 for tag in value)
    return None if are_tags else ": each tag must be a string of 1 to 128 characters."


def _wrong_object(value: Any) -> str | None:
    return _wrong_keys(value) if isinstance(value, dict) else " must be an object."


def _wrong_keys(value: Any) -> str | None:
    if isinstance(value, dict):
        for key in value:
            if not key or key.startswith("$") or "." in key:
                return f": the key {key!r} may not be empty, begin with '$' or contain '.'."
        value = list(value.values())
    within = map(_wrong_keys, value) if isinstance(value, list) else ()
    return next(filter(None, within), None)


def _wrong_storage(value: Any) -> str | None:
    if told := _wrong_object(value):
        return told
    for key, allowed in (("storage_type", _STORAGE_TYPES), ("registry_type", _REGISTRY_TYPES)):
        if key in value and not (isinstance(value[key], str) and value[key] in allowed):
            return f".{key} must be one of {', '.join(allowed)}."
    for key in ("storage_size", "memory_size"):
        number = value.get(key, -1)
        if not isinstance(number, int) or isinstance(number, bool) or number < -1:
            return f".{key} must be an integer of at least -1."
    return None


def _wrong_url(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > 2048:
        return " must be a string of at most 2048 characters."
    if _is_address(value):
        return None
    return " must be an absolute http or https URL without user info, query or fragment."


def _is_address(url: str) -> bool:
    if any(character <= " " or character == "\x7f" or character == "\\" for character in url):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or not _is_host(parts.hostname or "") or port == 0:
        return False
    # The parser overlooks what stands between an address in brackets and its port.
    return bool(_NETLOC.fullmatch(parts.netloc)) and "?" not in url and "#" not in url


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _wrong_secret(value: Any) -> str | None:
    try:
        valid = value is None or (isinstance(value, str) and bool(uuid.UUID(value)))
    except ValueError:
        valid = False
    return None if valid else " must be the UUID of a registry secret, or null."


FIELDS: dict[str, Callable[[Any], str | None]] = {
    ID: _wrong_id,
    "name": _wrong_text,
    "metadata": _wrong_object,
    "config": _wrong_object,
    "tags": _wrong_tags,
    URL: _wrong_url,
    "image_prefix": _wrong_text,
    "storage_info": _wrong_storage,
    SECRET: _wrong_secret,
}
"""The caller's own fields, in the order in which they are shown, each with what tells the rule that
a value breaks."""
