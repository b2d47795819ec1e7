"""Errors as the models' door shows them: a JSON object that names cause and detail."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from api.answers import JSON, MEANINGS
from api.problems import Failure

PREFIX = "/api"
_DROPPED = frozenset({"retry-after"})
"""Clients of this door would repeat their POST."""


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
    return {
        status: {"model": ModelError, "description": MEANINGS[status]}
        for status in sorted({401, 403, *statuses, 503})
    }


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
        headers = {k: v for k, v in failure.headers.items() if k.lower() not in _DROPPED}
        return Response(json.dumps(body | more), failure.status, headers, JSON)


def _technical(failure: Failure) -> str:
    """What helps to find the cause. Never empty."""
    facts = getattr(failure.cause, "facts", {})
    told = str(facts.get("technical") or "")
    fields = "; ".join(f"{one['field']}: {one['message']}" for one in failure.errors)
    nodes = json.dumps(failure.facts["nodes"]) if "nodes" in failure.facts else ""
    parts = [part for part in (told or fields, nodes, failure.instance) if part]
    return "\n".join(parts) or f"{failure.status} {failure.title}: {failure.code}"
