"""`/yard/v1/builds`: images made of a Dockerfile, whose context is sent or lies elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from api.http.answers import (
    Cursor,
    IfNoneMatch,
    Key,
    Limit,
    PageView,
    Wait,
    changed,
    created,
    found,
    page_response,
    waited,
)
from api.http.auth import GuardedRoute, HubDep, ServicesDep, needs
from api.http.bodies import archive_body, is_archive, streams_body
from api.http.problem_details import problems
from api.http.streams import EVENT_STREAM, HEARTBEAT_S, Pump, Stream, frames
from api.yard.views import BuildView, build_json
from pipeline.builds.specs import ACTIVE
from pipeline.errors import InvalidInput
from pipeline.events import sse
from pipeline.records.idempotency import id_for, new_id
from schemas.access import Permission, Principal
from schemas.image import Build, BuildSpec
from schemas.states import BuildStatus

PREFIX = "/yard/v1/builds"
TEXT = "text/plain"


class ContextRoute(GuardedRoute):
    """Meant when the body is a context; the same path takes JSON, too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL and not is_archive(Headers(scope=scope)):
            return Match.NONE, {}
        return match, child


router = APIRouter(prefix=PREFIX, tags=["images"], route_class=GuardedRoute)
contexts = APIRouter(prefix=PREFIX, tags=["images"], route_class=ContextRoute)

Viewer = Annotated[Principal, needs(Permission.IMAGE_VIEW)]
Builder = Annotated[Principal, needs(Permission.IMAGE_BUILD)]

_TAR = {"schema": {"type": "string", "format": "binary"}}
CONTEXTS: Any = {
    "requestBody": {"content": {"application/x-tar": _TAR, "application/gzip": _TAR}},
    "parameters": [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
        for name, text in {
            "name": "Of a context: what the image is called.",
            "dockerfile": "Of a context: the path of the Dockerfile in it.",
            "target": "Of a context: the stage that is wanted.",
            "secret": "Of a context: a registry secret for the base images.",
            "node": "Of a context: the node that builds.",
        }.items()
    ],
}
"""What contexts add to the documentation of the path."""
_EXAMPLES = {
    "from a repository": {
        "value": {"name": "team/model:1", "git_url": "https://git.example.com/team/model.git"}
    },
    "from a folder of a node": {"value": {"name": "team/model:1", "context_path": "/srv/model"}},
}


@router.post(
    "",
    status_code=202,
    openapi_extra=CONTEXTS,
    responses={
        201: {"model": BuildView, "description": "The outcome: DONE or FAILED."},
        202: {"model": BuildView, "description": "Recorded; it is built afterwards."},
        **problems(400, 404, 409, 413, 415, 422, 503),
    },
)
async def build_image(
    spec: Annotated[BuildSpec, Body(openapi_examples=_EXAMPLES)],
    caller: Builder,
    yard: ServicesDep,
    hub: HubDep,
    key: Key = None,
    wait: Wait = 0,
) -> Response:
    """Build an image from a folder of a node or from a Git repository, and list it.

    A context may be the body instead: a TAR, plain or compressed with gzip. The answer is then
    given once the node has it. With `wait`, the answer waits until the build is over.
    """
    key = key or new_id()
    uuid = id_for(caller.org, Build.resource, key)
    build = await waited(
        hub,
        caller,
        Build,
        uuid,
        ask=partial(yard.builds.service.create, caller, spec, key=key),
        load=partial(yard.builds.service.get, caller, uuid),
        is_settled=_is_settled,
        wait_s=min(wait, yard.settings.wait_max_s),
    )
    return created(build, build_json(build, caller), PREFIX, settled=_is_settled(build))


@contexts.post("", include_in_schema=False)
@streams_body
async def receive_context(
    request: Request,
    caller: Builder,
    yard: ServicesDep,
    hub: HubDep,
    key: Key = None,
    wait: Wait = 0,
    args: Annotated[list[str] | None, Query(alias="arg")] = None,
) -> Response:
    """Pass a context on to the node that builds it."""
    archive = archive_body(request, silence_s=yard.settings.upload_stall_s)
    spec = _spec_of(request, args or [])
    key = key or new_id()
    uuid = id_for(caller.org, Build.resource, key)
    build = await waited(
        hub,
        caller,
        Build,
        uuid,
        ask=partial(yard.builds.service.upload, caller, spec, archive.stream, key=key),
        load=partial(yard.builds.service.get, caller, uuid),
        is_settled=_is_settled,
        wait_s=min(wait, yard.settings.wait_max_s),
    )
    return created(build, build_json(build, caller), PREFIX, settled=_is_settled(build))


@router.get("", responses={200: {"model": PageView[BuildView]}, **problems(422, 503)})  # type: ignore[valid-type]
async def list_builds(
    request: Request,
    caller: Viewer,
    yard: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[BuildStatus | None, Query(description="Only this status.")] = None,
) -> Response:
    """Builds of the organisation, newest first."""
    page = await yard.builds.service.list(caller, limit=limit, cursor=cursor, status=status)
    return page_response(page, build_json, request=request, caller=caller)


@router.get(
    "/{uuid}",
    responses={200: {"model": BuildView}, 304: {"description": "Unchanged."}, **problems(404, 503)},
)
async def get_build(
    uuid: str, caller: Viewer, yard: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """One build, with the last lines of its output."""
    build = await yard.builds.service.get(caller, uuid)
    return found(build, build_json(build, caller), if_none_match)


@router.delete("/{uuid}", responses={200: {"model": BuildView}, **problems(404, 409, 503)})
async def cancel_build(uuid: str, caller: Builder, yard: ServicesDep) -> Response:
    """End a build that is not built yet: it has failed then. One that is over stays as it is."""
    build = await yard.builds.service.cancel(caller, uuid)
    return changed(build, build_json(build, caller))


@router.get(
    "/{uuid}/output",
    response_class=Response,
    responses={
        200: {
            "description": "As text, or by `Accept` as Server-Sent Events: `output` with `text`, at"
            " the end `done` or `failed`, or `bye` when it is the server that stops.",
            "content": {
                TEXT: {"schema": {"type": "string"}},
                EVENT_STREAM: {"schema": {"type": "string"}},
            },
        },
        **problems(404, 503),
    },
)
async def read_output(
    request: Request,
    uuid: str,
    caller: Annotated[Principal, needs(Permission.LOG_VIEW)],
    yard: ServicesDep,
    hub: HubDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """What a build writes, from its beginning until it is over. It is kept for 7 days."""
    await yard.builds.service.get(caller, uuid)
    async with AsyncExitStack() as stack:
        watch = stack.enter_context(hub.watch(caller.org, Build.resource, uuid))
        texts = yard.builds.service.output(caller, uuid, watch.moved)
        pump = await stack.enter_async_context(Pump(texts, request.app.state.draining))
        if EVENT_STREAM not in (accept or ""):
            return Stream(_text(pump), f"{TEXT}; charset=utf-8", held=stack.pop_all())
        end = partial(_end, partial(yard.builds.service.get, caller, uuid))
        return Stream(frames(pump, _event, end), EVENT_STREAM, held=stack.pop_all())


async def _text(pump: Pump[str]) -> AsyncGenerator[bytes]:
    while not pump.ended:
        if texts := await pump.take(HEARTBEAT_S):
            yield "".join(texts).encode()


def _event(text: str) -> bytes:
    return sse.control_frame("output", {"text": text})


async def _end(load: Callable[[], Awaitable[Build]]) -> bytes:
    build = await load()
    shown = {"id": build.uuid, "image": build.image, "reason": build.reason, "code": build.code}
    name = "done" if build.status is BuildStatus.DONE else "failed"
    return sse.control_frame(name, {**shown, "last_lines": build.last_lines})


def _spec_of(request: Request, args: list[str]) -> BuildSpec:
    """Raises InvalidInput, naming the field."""
    known = ("name", "dockerfile", "target", "secret", "node")
    given: dict[str, Any] = {
        name: request.query_params[name] for name in known if name in request.query_params
    }
    given["build_args"] = dict(each.partition("=")[::2] for each in args)
    try:
        return BuildSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise InvalidInput(f"{field}: {first['msg']}", field=field) from error


def _is_settled(build: Build) -> bool:
    return build.status not in ACTIVE
