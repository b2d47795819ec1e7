"""Who may use a route: declared beside it, checked before anything of the request is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from api.http import bodies
from api.http.answers import JSON
from api.http.middleware import Methods
from pipeline.access import roles
from pipeline.bootstrap.control_plane import Services
from pipeline.events.hub import EventHub
from schemas.access import Permission, Principal

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class RequiresPermission(SecurityBase):
    """The dependency that says which permission a route needs; its value is the caller."""

    def __init__(self, permission: Permission | None) -> None:
        self.permission = permission
        self.model = HTTPBearerModel(description="A token from `POST /yard/v1/login` or `/tokens`.")
        self.scheme_name = "token"

    async def __call__(self, request: Request) -> Principal:
        caller: Principal = request.state.caller
        return caller


def needs(permission: Permission | None) -> Any:
    """`caller: Annotated[Principal, needs(Permission.IMAGE_WRITE)]`; None: any valid token."""
    return Depends(RequiresPermission(permission))


class OpenRoute(APIRoute):
    """A route that anybody may call. Bodies have to be declared as JSON, and are capped.

    An endpoint marked with `streams_body` gets its body as it comes. A path that another route
    spells out (`/find`) is not for one with a parameter there (`/{uuid}`).
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.FULL and self.param_convertors:
            methods: Methods = scope["app"].state.methods
            if scope["path"] in methods.exact:
                return Match.NONE, {}
        return match, child

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()
        if bodies.does_stream(self.endpoint):
            return handler
        kinds = sorted({JSON, *_documented_kinds(self)})

        async def checked(request: Request) -> Response:
            if self.body_field is not None:
                _require_json(request, kinds)
            return await handler(bodies.capped(request))

        return checked


class GuardedRoute(OpenRoute):
    """A route of a door: token, permission, content type, and only then body and parameters.

    FastAPI reads the body before it runs dependencies, so the check cannot be one. A route that
    declares no `needs` does not come into being: open ones are an `OpenRoute`.
    """

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()
        declared = [needs.permission for needs in _needs(self.dependant)]
        if not declared:
            raise TypeError(f"{self.path} declares no permission: add `needs(...)` to it.")

        async def guarded(request: Request) -> Response:
            request.state.caller = await admit(request, *declared)
            return await handler(request)

        return guarded


async def admit(request: Request, *permissions: Permission | None) -> Principal:
    """The caller. Raises Unauthenticated, and PermissionDenied when a permission is lacking."""
    services: Services = request.app.state.services
    caller = await services.access.authenticate(request.headers.get("authorization"))
    for permission in permissions:
        if permission is not None:
            roles.require(caller, permission)
    return caller


def _needs(dependant: Dependant) -> Iterator[RequiresPermission]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, RequiresPermission):
            yield dependency.call
        yield from _needs(dependency)


def _documented_kinds(route: APIRoute) -> Iterable[str]:
    """Other bodies of the same path, which another route reads."""
    body: dict[str, dict[str, Any]] = (route.openapi_extra or {}).get("requestBody", {})
    return body.get("content", {})


def _require_json(request: Request, kinds: list[str]) -> None:
    """HTTPException 415 names `kinds`."""
    kind = bodies.media_type(request.headers)
    if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise HTTPException(415, f"Send the body as {' or '.join(kinds)}.")


async def services(request: Request) -> Services:
    opened: Services = request.app.state.services
    return opened


async def event_hub(request: Request) -> EventHub:
    hub: EventHub = request.app.state.hub
    return hub


ServicesDep = Annotated[Services, Depends(services)]
HubDep = Annotated[EventHub, Depends(event_hub)]
