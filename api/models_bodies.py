"""JSON bodies of the models' door, and routes that read their bodies themselves."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from api.bodies import heard
from pipeline.errors import InvalidInput, TooLarge
from pipeline.rules import strict_json

Shape = TypeVar("Shape", bound=BaseModel)

JSON = "application/json"
LONGEST_NUMBER = 20
"""Digits of an integer beyond which none fits into 64 bits."""


async def read(request: Request, shape: type[Shape]) -> Shape:
    """The body as `shape`; an empty one counts as `{}`, as clients send nothing for that.

    400 for what is no JSON, 415 for what is not declared as JSON, InvalidInput for the rest.
    """
    value = await read_json(request)
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise _refused(error) from None


async def read_json(request: Request) -> Any:
    """Any JSON value."""
    body = await _capped(request)
    if not body:
        return {}
    if media_type(request) != JSON:
        raise HTTPException(415, "Send the body as application/json.")
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is not JSON.") from error
    strict_json.check(value)
    return value


async def read_object(request: Request) -> bytes:
    """A JSON object as it was sent, byte for byte; an empty body counts as `{}`.

    400 for what is no JSON, 415 for what is not declared as JSON, InvalidInput for another value.
    """
    body = await _capped(request)
    if body and media_type(request) != JSON:
        raise HTTPException(415, "Send the body as application/json.")
    try:
        # What is only passed on is not limited to what can be kept.
        value = json.loads((body or b"{}").decode(), parse_constant=_refuse_constant, parse_int=str)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is not JSON.") from error
    if not isinstance(value, dict):
        raise InvalidInput("The body must be a JSON object.")
    return body or b"{}"


async def _capped(request: Request) -> bytes:
    """Also of endpoints that stream other kinds of bodies. Raises TooLarge, HTTPException 408."""
    settings = request.app.state.services.settings
    most = settings.body_max_bytes
    body = bytearray()
    pieces = request.stream()
    while piece := await heard(anext(pieces, b""), settings.request_silence_s):
        body += piece
        if len(body) > most:
            raise TooLarge(f"The body is larger than {most} bytes.")
    return bytes(body)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def described(shape: type[BaseModel], *, example: Any = None) -> dict[str, Any]:
    """The OpenAPI entry of a body that `read` reads."""
    content: dict[str, Any] = {"schema": shape.model_json_schema(by_alias=True)}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {JSON: content}}}


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise InvalidInput("Integers must fit into 64 bits.")
    return int(text)


def _refused(error: ValidationError) -> InvalidInput:
    found = [
        (".".join(map(str, one["loc"])), one["msg"])
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    told = "; ".join(f"{place or 'body'}: {why}" for place, why in found[:5])
    return InvalidInput(told, field=found[0][0] or "body")
