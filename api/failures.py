"""Every failure of a request ends here and leaves through the renderer of its door."""

from __future__ import annotations

import dataclasses
import logging
import uuid

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.doors import Doors
from api.methods import Methods
from api.problems import Failure
from pipeline.errors import YardError

log = logging.getLogger(__name__)


def install(app: FastAPI, doors: Doors, methods: Methods) -> None:
    """Have `app` answer every foreseen error through `doors`."""

    async def answer(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        failure = problems.failure(error)
        if failure.status == 405:
            failure = _with_allow(failure, methods.of(path))
        if failure.status >= 500:
            log.warning("%s %s failed: %s", request.method, path, failure.detail, exc_info=error)
        return doors.answer(failure, path)

    for kind in (YardError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


class Unforeseen:
    """Answers 500 for what nobody foresaw; the log has it under the incident of the answer.

    A caller who hangs up in the middle of his request is no such thing.
    """

    def __init__(self, app: ASGIApp, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            # Nobody is left to answer, and nothing of ours failed.
            log.info("%s %s was cut off by its caller", scope["method"], scope["path"])
        except Exception as error:
            incident = str(uuid.uuid4())
            log.exception("Incident %s in %s %s", incident, scope["method"], scope["path"])
            if started:
                raise  # too late for an answer: the server closes the connection
            response = self._doors.answer(problems.unforeseen(error, incident), scope["path"])
            await response(scope, receive, send)


def _with_allow(failure: Failure, known: frozenset[str]) -> Failure:
    if "GET" in known:
        known |= {"HEAD"}
    return dataclasses.replace(failure, headers={"Allow": ", ".join(sorted(known))})
