"""The kinds of registry credentials and what each one is made of."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pipeline.errors import InvalidInput, InvalidReference
from pipeline.oci import references
from pipeline.ports import Credentials
from schemas.registries.secret import SecretType

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


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field; doors may have words of their own for a `code`."""

    code: str
    message: str
    value: str = ""
    """What was sent instead, where that may be shown."""


_LACKING: Final = Fault("lacking", "is required")
_NULL: Final = Fault("null", "must not be null")
_NO_STRING: Final = Fault("no_string", "must be a string")
_BLANK: Final = Fault("blank", "must not be blank")
_LONG: Final = Fault("long", f"must have no more than {NAME_MAX} characters")
_CONTROLS: Final = Fault("controls", "must have no control characters")
_NO_OBJECT: Final = Fault("no_object", "must be an object")


def parse(
    name: object, secret_type: object, data: object, *, servers: Mapping[SecretType, str]
) -> SecretDraft:
    """`servers` are the default hosts. Values beyond the fields of the type are dropped.

    Raises InvalidInput with all faults at once: `facts["faults"]` is field → Faults. No message
    repeats a value of `data`.
    """
    named = name.strip() if isinstance(name, str) else name
    wrong_kind = _kind_faults(secret_type)
    kind = None if wrong_kind else SecretType(str(secret_type))
    credentials, wrong = _credentials(kind, data, servers)
    found = {"name": _name_faults(named), "secret_type": wrong_kind, "data": wrong}
    faults = {field: each for field, each in found.items() if each}
    if faults or kind is None or credentials is None:
        texts = (f"{field} {one.message}" for field in faults for one in faults[field])
        told = "; ".join(text.rstrip(".") for text in texts)
        raise InvalidInput(f"The secret cannot be kept: {told}.", faults=faults)
    return SecretDraft(str(named), kind, credentials)


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


def _name_faults(name: object) -> list[Fault]:
    if not isinstance(name, str):
        return _no_string(name)
    if not name:
        return [_BLANK]
    if len(name) > NAME_MAX:
        return [_LONG]
    return [_CONTROLS] if any(unicodedata.category(each) in _NO_TEXT for each in name) else []


def _kind_faults(secret_type: object) -> list[Fault]:
    if not isinstance(secret_type, str):
        return _no_string(secret_type)
    if secret_type in set(SecretType):
        return []
    return [Fault("unknown", f"must be one of {', '.join(SecretType)}", secret_type[:100])]


def _no_string(value: object) -> list[Fault]:
    return [_LACKING if value is ABSENT else _NULL if value is None else _NO_STRING]


def _credentials(
    kind: SecretType | None, data: object, servers: Mapping[SecretType, str]
) -> tuple[Credentials | None, list[Fault]]:
    if not isinstance(data, Mapping):
        return None, [_LACKING if data is ABSENT else _NULL if data is None else _NO_OBJECT]
    if kind is None:
        return None, []
    wrong = [why for field in FIELDS[kind] if (why := _value_fault(field, data))]
    if wrong:
        return None, [Fault("value", why) for why in wrong]
    try:
        server = registry_server((data.get("server") or "").strip() or servers[kind])
    except InvalidReference:
        return None, [Fault("value", "server must be host or host:port.")]
    # Of the kind's own fields: what else was sent is unchecked.
    proof = next(data[field.name] for field in FIELDS[kind] if field.sensitive)
    return Credentials(server, data["username"], proof), []


def _value_fault(field: ValueField, data: Mapping[str, Any]) -> str | None:
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
