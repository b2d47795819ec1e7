"""The kinds of registry credentials and what each one is made of."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pipeline.errors import InvalidInput, InvalidReference
from pipeline.ports import Credentials
from pipeline.rules import references
from schemas.secret import SecretType

NAME_MAX: Final = 255
ABSENT: Final = object()
"""What stands for a field that was not sent; None is one that was sent as null."""
VALUE_MAX: Final = 16 * 1024

_NO_TEXT: Final = frozenset({"Cc", "Cs"})
"""Control characters, and halves of surrogate pairs."""


@dataclass(frozen=True, slots=True)
class ValueField:
    name: str
    required: bool
    sensitive: bool


_USERNAME: Final = ValueField("username", required=True, sensitive=False)
_TOKEN: Final = ValueField("token", required=True, sensitive=True)
_PASSWORD: Final = ValueField("password", required=True, sensitive=True)
_SERVER: Final = ValueField("server", required=True, sensitive=False)
_SERVER_OR_DEFAULT: Final = ValueField("server", required=False, sensitive=False)

FIELDS: Final[Mapping[SecretType, tuple[ValueField, ...]]] = MappingProxyType(
    {
        SecretType.DOCKER_HUB: (_USERNAME, _TOKEN, _SERVER_OR_DEFAULT),
        SecretType.DEPOT: (_USERNAME, _TOKEN, _SERVER_OR_DEFAULT),
        SecretType.NVIDIA: (_SERVER, _USERNAME, _PASSWORD),
        SecretType.REGISTRY: (_SERVER, _USERNAME, _PASSWORD),
    }
)


@dataclass(frozen=True, slots=True)
class SecretDraft:
    """What somebody wants to keep, checked."""

    name: str
    secret_type: SecretType
    credentials: Credentials


def parse(
    name: object, secret_type: object, data: object, *, servers: Mapping[SecretType, str]
) -> SecretDraft:
    """`servers` are the default hosts. Values beyond the fields of the type are dropped.

    Raises InvalidInput with all faults at once: `facts["errors"]` is field → messages. No message
    repeats a value of `data`.
    """
    errors: dict[str, list[str]] = {}
    checked_name = _name(name, errors)
    kind = _kind(secret_type, errors)
    credentials = _credentials(kind, data, servers, errors)
    if errors or kind is None or credentials is None:
        told = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in errors.items())
        raise InvalidInput(f"The secret cannot be kept: {told}", errors=errors)
    return SecretDraft(checked_name, kind, credentials)


def registry_server(text: str) -> str:
    """`host[:port]` in the spelling that servers are compared in. Raises InvalidReference.

    A scheme, the API versions that some tools append, and the port of HTTPS are left off.
    """
    host = text.strip().lower()
    for scheme in ("https://", "http://"):
        host = host.removeprefix(scheme)
    host = host.removesuffix("/")
    for version in ("/v1", "/v2"):
        host = host.removesuffix(version)
    return references.registry_host(host.removesuffix(":443"))


def _name(name: object, errors: dict[str, list[str]]) -> str:
    if _is_lacking("name", name, errors):
        return ""
    if not isinstance(name, str):
        errors["name"] = ["Not a valid string."]
        return ""
    name = name.strip()
    if not name:
        errors["name"] = ["This field may not be blank."]
    elif len(name) > NAME_MAX:
        errors["name"] = [f"Ensure this field has no more than {NAME_MAX} characters."]
    elif any(unicodedata.category(each) in _NO_TEXT for each in name):
        errors["name"] = ["Control characters are not allowed."]
    return name


def _is_lacking(field: str, value: object, errors: dict[str, list[str]]) -> bool:
    if value is ABSENT:
        errors[field] = ["This field is required."]
    elif value is None:
        errors[field] = ["This field may not be null."]
    return field in errors


def _kind(secret_type: object, errors: dict[str, list[str]]) -> SecretType | None:
    if _is_lacking("secret_type", secret_type, errors):
        return None
    if isinstance(secret_type, str) and secret_type in set(SecretType):
        return SecretType(secret_type)
    errors["secret_type"] = [
        f'"{str(secret_type)[:100]}" is not a valid choice.'
        if isinstance(secret_type, str)
        else "Not a valid string."
    ]
    return None


def _credentials(
    kind: SecretType | None,
    data: object,
    servers: Mapping[SecretType, str],
    errors: dict[str, list[str]],
) -> Credentials | None:
    if _is_lacking("data", data, errors):
        return None
    if not isinstance(data, Mapping):
        errors["data"] = ["Expected an object."]
        return None
    if kind is None:
        return None
    faults = [fault for field in FIELDS[kind] if (fault := _fault(field, data))]
    if faults:
        errors["data"] = faults
        return None
    try:
        server = registry_server((data.get("server") or "").strip() or servers[kind])
    except InvalidReference:
        errors["data"] = ["server must be host or host:port."]
        return None
    # Of the kind's own fields: what else was sent is unchecked.
    proof = next(data[field.name] for field in FIELDS[kind] if field.sensitive)
    return Credentials(server, data["username"], proof)


def _fault(field: ValueField, data: Mapping[str, Any]) -> str | None:
    value = data.get(field.name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"{field.name} is required." if field.required else None
    if not isinstance(value, str):
        return f"{field.name} must be a string."
    if len(value) > VALUE_MAX:
        return f"{field.name} must have no more than {VALUE_MAX} characters."
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        return f"{field.name} must be Unicode text without NUL."
    if field is _USERNAME and ":" in value:
        return "username must not contain a colon."
    return None
