"""`/container-svc/image`: images built from a folder of a node, a repository, or what is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from api.container_svc.answers import body_of, failures, json_answer, read, unsuccessful
from api.container_svc.nodes import PREFIX, NodeId, node_of
from api.container_svc.run_request import Part, Text
from api.container_svc.waiting import RUN_S, Waiting
from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from api.http.bodies import archive_body, streams_body
from api.http.streams import EVENT_STREAM, Pump, Stream, frames
from pipeline.bootstrap.control_plane import Services
from pipeline.builds.specs import ACTIVE
from pipeline.errors import BuildFailed, EngineUnavailable, InvalidInput, YardError
from pipeline.events import sse
from pipeline.events.hub import EventHub
from pipeline.records.idempotency import id_for, new_id
from schemas.access import Permission, Principal
from schemas.image import Build, BuildSpec
from schemas.states import BuildStatus

router = APIRouter(prefix=PREFIX, tags=["container service"], route_class=GuardedRoute)

Builder = Annotated[Principal, needs(Permission.IMAGE_BUILD)]
KIND: Final = "build"
"""Of its operation."""
Accept = Annotated[str | None, Header(include_in_schema=False)]

_FIELDS: Final[Mapping[str, str]] = {
    "context_path": "contextPath",
    "git_url": "gitUrl",
    "git_ref": "gitRef",
    "dockerfile": "dockerfilePath",
    "node": "nodeId",
}
"""Those of the core that are called otherwise here."""
_CAME_TO_NOTHING: Final = frozenset({"interrupted", "node_lost"})
"""Another try may do what the node could not."""
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "It is listed. By `Accept` as Server-Sent Events: `output` with `text`, at"
        " the end `done` or `failed`, or `bye` when it is the server that stops.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            EVENT_STREAM: {"schema": {"type": "string"}},
        },
    },
    **failures(400, 404, 409, 413, 422, 504),
}
_TAR: Final = {"schema": {"type": "string", "format": "binary"}, "example": "a TAR"}


class BuildRequest(Part):
    name: Text = Field(min_length=1)
    contextPath: Text = ""
    dockerfilePath: Text = ""
    gitUrl: Text = ""
    gitRef: Text = ""
    nodeId: Text = ""


@router.put(
    "/image",
    responses=_ANSWERS,
    openapi_extra=body_of({"name": "my-custom-service", "contextPath": "/srv/my-app"}),
)
async def build_image(
    request: Request, caller: Builder, services: ServicesDep, hub: HubDep, accept: Accept = None
) -> Response:
    """Build an image from a folder of a node, or a Git repository, and list it under its name."""
    asked = await read(request, BuildRequest)
    spec = await _spec(services, caller, asked)
    begin = partial(services.builds.service.create, caller, spec)
    return await _Building(request, services, hub, caller).answer(begin, accept)


@router.put(
    "/image/context",
    responses={**_ANSWERS, **failures(415)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-tar": _TAR, "application/gzip": _TAR},
        }
    },
)
@streams_body
async def build_sent_context(
    request: Request,
    caller: Builder,
    services: ServicesDep,
    hub: HubDep,
    name: Annotated[str, Query(min_length=1, description="What the image is called.")],
    dockerfilePath: Annotated[str, Query(description="In the context.")] = "",
    nodeId: NodeId = "",
    accept: Accept = None,
) -> Response:
    """Build an image from the context that is the body, a TAR, and list it under its name."""
    archive = archive_body(request, silence_s=services.settings.upload_stall_s)
    asked = BuildRequest(name=name, dockerfilePath=dockerfilePath, nodeId=nodeId)
    spec = await _spec(services, caller, asked)
    begin = partial(services.builds.service.upload, caller, spec, archive.stream)
    return await _Building(request, services, hub, caller).answer(begin, accept)


async def _spec(services: Services, caller: Principal, asked: BuildRequest) -> BuildSpec:
    """Raises InvalidInput, NotFound for a node, EngineUnavailable for one that is lost."""
    node = await node_of(services, caller, asked.nodeId, must_answer=True)
    given = {
        core: getattr(asked, field)
        for core, field in _FIELDS.items()
        if core != "node" and getattr(asked, field)
    }
    if node is not None:
        given["node"] = node.uuid
    try:
        return BuildSpec.model_validate({"name": asked.name, **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = _FIELDS.get(str(first["loc"][0]), str(first["loc"][0]))
        raise InvalidInput(f"{field}: {first['msg']}.", field=field) from error


class _Building:
    """One request: waits for its end, or sends what the build writes."""

    def __init__(
        self, request: Request, services: Services, hub: EventHub, caller: Principal
    ) -> None:
        self._draining = request.app.state.draining
        self._services = services
        self._hub = hub
        self._caller = caller
        self._key = new_id()
        self._uuid = id_for(caller.org, Build.resource, self._key)

    async def answer(self, begin: Callable[..., Awaitable[Build]], accept: str | None) -> Response:
        """Raises what stood in the way, and Timeout."""
        ask = partial(self._begun, begin)
        if EVENT_STREAM in (accept or ""):
            await ask()
            return await self._followed()
        waiting = Waiting(self._services, self._hub, self._caller, wait_s=RUN_S)
        build = await waiting.settled(
            Build, self._uuid, ask=ask, load=self._load, is_settled=_is_over
        )
        if not _is_over(build):
            raise waiting.over(KIND, build.uuid)
        if build.status is BuildStatus.FAILED:
            raise failure_of(build)
        return json_answer({})

    async def _begun(self, begin: Callable[..., Awaitable[Build]]) -> Build:
        try:
            return await begin(key=self._key)
        except InvalidInput as error:
            raise InvalidInput(in_words(error.message), **error.facts) from error

    async def _load(self) -> Build:
        return await self._services.builds.service.get(self._caller, self._uuid)

    async def _followed(self) -> Response:
        async with AsyncExitStack() as stack:
            watch = stack.enter_context(
                self._hub.watch(self._caller.org, Build.resource, self._uuid)
            )
            texts = self._services.builds.service.output(self._caller, self._uuid, watch.moved)
            pump = await stack.enter_async_context(Pump(texts, self._draining))
            sent = frames(pump, lambda text: sse.control_frame("output", {"text": text}), self._end)
            return Stream(sent, f"{EVENT_STREAM}; charset=utf-8", held=stack.pop_all())

    async def _end(self) -> bytes:
        build = await self._load()
        facts = {"operationId": f"{KIND}-{build.uuid}", "name": build.name}
        if build.status is BuildStatus.DONE:
            return sse.control_frame("done", facts)
        failure = failure_of(build)
        told = {"error": failure.message, "code": failure.code}
        return sse.control_frame("failed", {**facts, **told})


def failure_of(build: Build) -> YardError:
    """The error for a build that has failed, with the last lines that it wrote."""
    reason = in_words(build.reason or "It came to nothing.")
    if build.code == InvalidInput.code:
        return InvalidInput(reason)
    if build.code in _CAME_TO_NOTHING:
        return EngineUnavailable(reason)
    lines = build.last_lines.strip()
    return unsuccessful(
        build.code, f"{reason}\n{lines}" if lines else reason, otherwise=BuildFailed
    )


def in_words(text: str) -> str:
    """With the fields as they are called here."""
    for core, field in _FIELDS.items():
        text = text.replace(core, field) if "_" in core else text
    return text


def _is_over(build: Build) -> bool:
    return build.status not in ACTIVE
