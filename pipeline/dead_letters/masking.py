"""What may be shown of a message that somebody published.

Of what a schema knows, values are shown unless the schema conceals them; environments and
credentials keep their keys. Of everything else, misplaced fields among them, only keys and types.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline import topology
from pipeline.errors import InvalidInput
from pipeline.telemetry import HIDDEN, is_secret_name, redact
from schemas.base import Mark
from schemas.commands import COMMANDS, NodeOrder

MASK: Final = "***"
_TYPES: Final = {str: "string", bool: "boolean", int: "number", float: "number", NoneType: "null"}
_PLAIN_DIGITS: Final = 6
"""Numbers that are shorter are no secrets by themselves."""


def shown(subject: str, data: bytes) -> Any:
    """The payload with its values masked; None when it is not JSON."""
    return _Look.at(subject, data).view


def hidden(subject: str, data: bytes) -> frozenset[str]:
    """The values that `shown` leaves out: no reason or log line may tell them either."""
    return frozenset(_Look.at(subject, data).hidden)


class _Look:
    """One walk over a payload along its schema."""

    def __init__(self) -> None:
        self.view: Any = None
        self.hidden: set[str] = set()

    @classmethod
    def at(cls, subject: str, data: bytes) -> _Look:
        look = cls()
        try:
            value = json.loads(data) if data else None
            look.view = look._value(_shape(subject), (), value)
        except (ValueError, RecursionError):
            look.view = None
        return look

    def _value(self, kind: Any, marks: Sequence[Any], value: Any) -> Any:
        if Mark.CONCEALED in marks:
            return self._masked(value)
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            return self._value(kind, (*marks, *more), value)
        if get_origin(kind) in (Union, UnionType):
            return self._value(_fitting(kind, value), marks, value)
        if isinstance(value, dict):
            return self._fields(kind, value)
        if isinstance(value, list):
            element = (get_args(kind) or (Any,))[0] if get_origin(kind) is list else Any
            return [
                self._masked(each)
                if isinstance(each, str) and _names_a_secret(before)
                else self._value(element, (), each)
                for before, each in zip([None, *value], value, strict=False)
            ]
        if _is_known(kind, tuple(marks), value):
            return redact(value) if isinstance(value, str) else value
        return self._typed(value)

    def _fields(self, kind: Any, value: dict[str, Any]) -> Any:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known = {info.alias or name: info for name, info in kind.model_fields.items()}
        else:
            known = {}
        values = get_args(kind)[1] if get_origin(kind) is dict else Any
        shown = {}
        for name, each in value.items():
            info = known.get(name)
            if is_secret_name(name):
                shown[name] = self._masked(each)
            elif info is not None:
                shown[name] = self._value(info.annotation, tuple(info.metadata), each)
            else:
                shown[redact(name)] = self._value(values, (), each)
        return shown

    def _masked(self, value: Any) -> Any:
        """Keys and how many, no values."""
        if isinstance(value, dict):
            return {name: self._masked(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._masked(each) for each in value]
        self._hide(value)
        return None if value is None else MASK

    def _typed(self, value: Any) -> str:
        self._hide(value)
        return _TYPES[type(value)]

    def _hide(self, value: Any) -> None:
        if isinstance(value, str):
            self.hidden.add(value)
        elif isinstance(value, int | float) and len(str(value)) >= _PLAIN_DIGITS:
            self.hidden.add(str(value))


def _names_a_secret(word: object) -> bool:
    """Is it an option of a command line, as `--token`, whose value is the next word?"""
    return isinstance(word, str) and word.startswith("-") and is_secret_name(word.lstrip("-"))


def _shape(subject: str) -> Any:
    if topology.matches("yard.node.*.*", subject):
        return NodeOrder
    try:
        command = topology.parse_command(subject)
    except InvalidInput:
        return Any
    return COMMANDS.get(f"{command.resource}.{command.verb}", Any)


def _fitting(kind: Any, value: Any) -> Any:
    """The member of a union that the value is of."""
    members = [each for each in get_args(kind) if each is not NoneType]
    if len(members) == 1:
        return members[0]
    return next((each for each in members if _is_known(each, (), value)), Any)


def _is_known(kind: Any, marks: tuple[Any, ...], value: Any) -> bool:
    if kind is Any:
        return Mark.PLAIN in marks
    if value is None:
        return True
    try:
        _adapter(kind, marks).validate_python(value)
    except ValidationError:
        return False
    return True


@cache
def _adapter(kind: Any, marks: tuple[Any, ...]) -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[kind, *marks] if marks else kind)


def shown_header(name: str, value: str) -> str:
    """Attributes of CloudEvents are shown, of other headers only the name."""
    return redact(value) if name.lower() in SHOWN_HEADERS else HIDDEN


SHOWN_HEADERS: Final = frozenset(
    {
        *("ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time", "ce-subject", "ce-actor"),
        *("ce-causationid", "traceparent", "content-type", "nats-msg-id"),
    }
)
