"""Fields of a body, checked one by one; what is wrong with them is gathered."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from pipeline import strict_json
from pipeline.errors import YardError
from schemas.image import CLIENTS_OWN

REQUIRED: Final = "This field is required."
NULL: Final = "This field may not be null."
BLANK: Final = "This field may not be blank."
NO_STRING: Final = "Not a valid string."
NO_INTEGER: Final = "A valid integer is required."
NO_NUMBER: Final = "A valid number is required."
NO_BOOLEAN: Final = "Must be a valid boolean."
NO_OBJECT: Final = "Expected an object."
NO_UUID: Final = "Must be a valid UUID."
CONTROLS: Final = "Control characters are not allowed."


class Fields:
    """Reads one body. What is wrong gets a neutral value and an entry in `wrong`; whoever reads
    looks there before he believes anything."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.wrong: dict[str, list[str]] = {}

    def refuse(self, name: str, message: str) -> None:
        self.wrong.setdefault(name, []).append(message)

    def has(self, name: str) -> bool:
        """Of optional fields null is as good as absent."""
        return self.body.get(name) is not None

    def required(self, name: str) -> bool:
        """Whether there is a value at all."""
        if not self.has(name):
            self.refuse(name, NULL if name in self.body else REQUIRED)
        return self.has(name)

    def text(self, name: str, *, least: int = 1, most: int = 255) -> str:
        """Without the space around it. Required."""
        if not self.required(name):
            return ""
        value = self.body[name]
        if not isinstance(value, str):
            self.refuse(name, NO_STRING)
            return ""
        value = value.strip()
        if not value:
            self.refuse(name, BLANK)
        elif len(value) < least:
            self.refuse(name, f"Ensure this field has at least {least} characters.")
        elif len(value) > most:
            self.refuse(name, f"Ensure this field has no more than {most} characters.")
        elif any(unicodedata.category(each) == "Cc" for each in value):
            self.refuse(name, CONTROLS)
        return value

    def integer(self, name: str, *, least: int = 0, most: int) -> int:
        """Required."""
        if not self.required(name):
            return least
        value = self.body[name]
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, NO_INTEGER)
            return least
        if value < least:
            self.refuse(name, f"Ensure this value is greater than or equal to {least}.")
        elif value > most:
            self.refuse(name, f"Ensure this value is less than or equal to {most}.")
        return value

    def number(self, name: str) -> float | None:
        """Optional; a text of digits will do."""
        if not self.has(name):
            return None
        value = self.body[name]
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError(name)
            number = float(value)
            if not abs(number) < 2**40:
                raise ValueError(name)
        except ValueError:
            self.refuse(name, NO_NUMBER)
            return None
        return number

    def flag(self, name: str, default: bool = False) -> bool:
        """Optional."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, NO_BOOLEAN)
        return value if isinstance(value, bool) else default

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """Optional."""
        if not self.has(name):
            return default
        value = self.body[name]
        if not isinstance(value, str):
            self.refuse(name, NO_STRING)
        elif value not in choices:
            self.refuse(name, f'"{value[:100]}" is not a valid choice.')
        return value if isinstance(value, str) else default

    def mapping(self, name: str) -> dict[str, Any]:
        """Optional."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, dict):
            self.refuse(name, NO_OBJECT)
        return value if isinstance(value, dict) else {}

    def uuid(self, name: str) -> str:
        """Required; canonical, from any spelling."""
        if not self.required(name):
            return ""
        found = canonical(self.body[name])
        if found is None:
            self.refuse(name, NO_UUID)
        return found or ""

    def env(self, name: str) -> dict[str, Any]:
        """Optional: variables whose values are texts, numbers or booleans, as they were sent."""
        values = self.mapping(name)
        for key, value in values.items():
            if not key or "=" in key:
                self.refuse(name, "Names of variables are not empty and hold no =.")
            if not isinstance(value, str | int | float):
                self.refuse(name, f'"{key[:100]}" must be a string, a number or a boolean.')
        return values


def canonical(value: object) -> str | None:
    """A UUID in any spelling, in the usual one; None for what is none."""
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def no_object(name: str, id: str) -> dict[str, list[str]]:
    """What is said of a field that refers to nothing."""
    return {name: [f'Invalid pk "{id}" - object does not exist.']}


class NetworkFields:
    """`ports` and `healthcheck`, which containers and deployments have alike."""

    def __init__(self, fields: Fields) -> None:
        self.ports = self._ports(fields)
        self.healthcheck = self._healthcheck(fields)

    def _ports(self, fields: Fields) -> dict[str, int]:
        """By `http`, and `grpc` where there is one; empty when none are named."""
        given = fields.mapping("ports")
        if not given:
            return {}
        if "http" not in given:
            fields.refuse("ports", "http is required.")
        unknown = sorted(set(given) - {"http", "grpc"})
        if unknown:
            fields.refuse("ports", f"Only http and grpc are known, not {unknown[0][:100]}.")
        found: dict[str, int] = {}
        for name in filter(given.__contains__, ("http", "grpc")):
            port = given[name].get("port") if isinstance(given[name], dict) else None
            if isinstance(port, int) and _is_port(port):
                found[name] = port
            else:
                fields.refuse("ports", f"{name}.port must be an integer from 1 to 65535.")
        if len(set(found.values())) < len(found):
            fields.refuse("ports", "http and grpc must be different ports.")
        return found

    def _healthcheck(self, fields: Fields) -> dict[str, Any]:
        """With its defaults; empty when there is none. Without a port it asks that of `http`."""
        given = fields.mapping("healthcheck")
        if not given:
            return {}
        path = given.get("path", "/")
        if not isinstance(path, str) or not path.startswith("/") or _has_controls(path):
            fields.refuse("healthcheck", "path must be a string that begins with /.")
        if "port" in given and not _is_port(given["port"]):
            fields.refuse("healthcheck", "port must be an integer from 1 to 65535.")
        for name, (default, least, most) in _SECONDS.items():
            seconds = given.get(name, default)
            is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not is_number or not least <= seconds <= most:
                fields.refuse("healthcheck", f"{name} must be a number from {least} to {most}.")
        defaults = {name: default for name, (default, *_) in _SECONDS.items()}
        return {"path": "/", **defaults, **given}


def kept(annotations: Mapping[str, str]) -> dict[str, Any]:
    """What a client said that only this door reads again. Without what is not of its type: records
    of before may hold what somebody else wrote there."""
    text = annotations.get(CLIENTS_OWN, "{}").encode()
    try:
        given = strict_json.read(text, max_bytes=len(text))
    except YardError:
        given = None
    found: dict[str, Any] = given if isinstance(given, dict) else {}
    fields = Fields(found)
    NetworkFields(fields)
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, _KEPT.get(name, object)) and name not in fields.wrong
    }


_KEPT: Final[Mapping[str, type]] = {
    **dict.fromkeys(("source_type", "registry_path", "docker_tag", "gpu_id", "cluster"), str),
    **dict.fromkeys(("deployment_tag", "async_deployment_type"), str),
    **dict.fromkeys(("env_variables", "autoscale_config"), dict),
    **dict.fromkeys(("fast_scaleup", "scale_to_zero_enabled"), bool),
}
_SECONDS: Final = {
    "initialDelaySeconds": (30, 0, 86400),
    "periodSeconds": (10, 1, 3600),
    "timeoutSeconds": (5, 1, 600),
}
"""Default, least and most."""


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(each) == "Cc" for each in text)
