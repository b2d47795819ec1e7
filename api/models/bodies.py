"""Bodies of the models' door: how they are read, what they hold, and those of its failures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http.answers import JSON, end_to_end
from api.http.bodies import capped, media_type
from api.http.problem_details import MEANINGS, Failure
from pipeline import strict_json
from pipeline.errors import InvalidInput
from schemas.model import Activation, ModelInput, ModelOutput

Shape = TypeVar("Shape", bound=BaseModel)

PREFIX = "/api"
RETRY_AFTER = "retry-after"
"""Never a header here: clients of this door would repeat their POST."""
_OF_THE_BODY = frozenset(
    b"accept-ranges etag inference-header-content-length last-modified vary".split()
)
"""Of a model's answer: what speaks of its body, and not of what it is wrapped in."""
FILE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
"""The schema of a form with one file."""
LONGEST_NUMBER = 20
"""Digits of an integer beyond which none fits into 64 bits."""


def answer(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), status, media_type=JSON)


def wrapped(value: Any, headers: Iterable[tuple[bytes, bytes]], *, cookies: bool) -> Response:
    """What a model answered, inside of our JSON. `headers` are the model's own."""
    response = answer(value)
    dropped = {name for name, _ in response.raw_headers} | _OF_THE_BODY | {RETRY_AFTER.encode()}
    told = end_to_end(headers, dropped, cookies=cookies)
    response.raw_headers += [each for each in told if not each[0].startswith(b"content-")]
    return response


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
    value = _parsed(await _sent(request), _integer)
    strict_json.check(value)
    return value


async def read_object(request: Request) -> bytes:
    """A JSON object as it was sent, byte for byte; an empty body counts as `{}`.

    400 for what is no JSON, 415 for what is not declared as JSON, InvalidInput for another value.
    """
    body = await _sent(request)
    # What is only passed on is not limited to what can be kept.
    if not isinstance(_parsed(body, str), dict):
        raise InvalidInput("The body must be a JSON object.")
    return body


def takes(content: type[BaseModel] | dict[str, Any], *statuses: int) -> dict[str, Any]:
    """The OpenAPI entry of a route with a body: what `read` reads, or schemas by media type.

    `statuses` are failures beside those that a body may cause.
    """
    if not isinstance(content, dict):
        content = {JSON: {"schema": content.model_json_schema(by_alias=True)}}
    # An empty body counts as `{}`.
    schemas = [kind["schema"] for kind in content.values()]
    is_required = any("required" in each or "format" in each for each in schemas)
    body = {"required": is_required, "content": content}
    failed = failures(400, 413, 415, 422, *statuses)
    return {"openapi_extra": {"requestBody": body}, "responses": failed}


async def _sent(request: Request) -> bytes:
    body = await capped(request).body()
    if body and media_type(request.headers) != JSON:
        raise HTTPException(415, "Send the body as application/json.")
    return body or b"{}"


def _parsed(body: bytes, integer: Callable[[str], Any]) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant, parse_int=integer)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is not JSON.") from error


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
    message = "; ".join(f"{place or 'body'}: {why}" for place, why in found[:5])
    return InvalidInput(message, field=found[0][0] or "body")


class ModelError(BaseModel):
    """Every failure under `/api`. That of a delivery holds the `containerImage`, too."""

    statusCode: int
    status: str
    code: str
    message: str
    technicalInformation: str
    reportErrorUrl: str


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented failures of a route of this door; every one has 401, 403 and 503."""
    documented = sorted({401, 403, *statuses, 503})
    return {each: {"model": ModelError, "description": MEANINGS[each]} for each in documented}


class ErrorBodies:
    """The renderer of the door. `report_url` is where somebody may turn to."""

    def __init__(self, report_url: str) -> None:
        self._report_url = report_url

    def __call__(self, failure: Failure, path: str) -> Response:
        return self.answer(failure)

    def answer(self, failure: Failure, *, technical: str = "", **more: Any) -> Response:
        """`technical` instead of what can be made of the failure; `more` are further members."""
        body = {
            "statusCode": failure.status,
            "status": failure.title,
            "code": failure.code,
            "message": failure.detail,
            "technicalInformation": technical or _technical(failure),
            "reportErrorUrl": self._report_url,
        }
        headers = {k: v for k, v in failure.headers.items() if k.lower() != RETRY_AFTER}
        return Response(json.dumps(body | more), failure.status, headers, JSON)


def _technical(failure: Failure) -> str:
    """What helps to find the cause. Never empty."""
    facts = getattr(failure.cause, "facts", {})
    detail = str(facts.get("technical") or "")
    fields = "; ".join(f"{one['field']}: {one['message']}" for one in failure.errors)
    nodes = json.dumps(failure.facts["nodes"]) if "nodes" in failure.facts else ""
    parts = [part for part in (detail or fields, nodes, failure.instance) if part]
    return "\n".join(parts) or f"{failure.status} {failure.title}: {failure.code}"


# --- what callers send

Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
    Field(json_schema_extra={"pattern": r"\S"}),
]
_NUMBER = "(0|[1-9][0-9]{0,17})"
_IDENTIFIER = "(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
Version = Annotated[
    str,
    Field(
        json_schema_extra={
            "maxLength": 100,
            "pattern": rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_IDENTIFIER}(\.{_IDENTIFIER})*)?"
            r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$",
        }
    ),
]
"""Of Semantic Versioning; The core requires it."""
FileName = Annotated[
    str, StringConstraints(max_length=120, pattern=r"^[^/\\\x00-\x1f\x7f]+$", strict=True)
]
Milliseconds = Annotated[int, Field(ge=1, le=24 * 3600 * 1000)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Request(BaseModel):
    model_config = ConfigDict(
        extra="ignore", strict=True, alias_generator=to_camel, populate_by_name=True
    )


class NewModel(_Request):
    name: Text
    version: Version


class NewVersion(_Request):
    version: Version


class ModelPatch(_Request):
    description: str | None = None
    tags: list[Text] | None = Field(default=None, max_length=1000)


class RequirementPatch(_Request):
    requirement_id: int | None = None


class TimeoutPatch(_Request):
    run: Milliseconds | None = None
    status: Milliseconds | None = None


class InputPatch(_Request):
    name: FileName
    accepted_media_types: str | list[str] | None = None
    maximum_size: Count | None = None
    description: str | None = None


class OutputPatch(_Request):
    name: FileName
    media_type: str | None = None
    maximum_size: Count | None = None
    description: str | None = None


class ProcessingPatch(_Request):
    minimum_parallel_capacity: Count | None = None
    maximum_parallel_capacity: Count | None = None


_TEXTS = ("long_description", "technical_details", "performance_summary")


class VersionPatch(_Request):
    """What is not given stays as it is."""

    requirement: RequirementPatch | None = None
    timeout: TimeoutPatch | None = None
    inputs: list[InputPatch] | None = Field(default=None, max_length=100)
    outputs: list[OutputPatch] | None = Field(default=None, max_length=100)
    statistics: list[Any] | None = None
    processing: ProcessingPatch | None = None
    long_description: str | None = None
    technical_details: str | None = None
    performance_summary: str | None = None
    status: Annotated[Activation | None, Field(strict=False)] = None

    def wanted(self) -> dict[str, Any]:
        """What is given, by the fields of a version."""
        given = self.model_dump(exclude_none=True)
        values = {name: given[name] for name in _TEXTS if name in given}
        if self.requirement and self.requirement.requirement_id is not None:
            values["requirement"] = self.requirement.requirement_id
        if self.timeout:
            values["timeouts"] = {f"{name}_ms": ms for name, ms in given["timeout"].items()}
        if self.processing:
            # `minimum_parallel_capacity` is the minimum of containers.
            capacities = given["processing"].items()
            values["processing"] = {name.partition("_")[0]: most for name, most in capacities}
        if self.inputs is not None:
            values["inputs"] = [ModelInput(**each) for each in given["inputs"]]
        if self.outputs is not None:
            values["outputs"] = [ModelOutput(**each) for each in given["outputs"]]
        if self.statistics is not None:
            values["statistics"] = self.statistics
        if self.status:
            values["activation"] = self.status
        return values


class RegistryLink(_Request):
    """Where an image lies."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    username: Annotated[str, StringConstraints(max_length=1024)] | None = None
    password: SecretStr | None = None


class LinkDelivery(_Request):
    registry: RegistryLink
