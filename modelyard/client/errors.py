"""What a call can fail by: no connection, a refusal, or an answer that is not Modelyard's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx


class ModelyardError(Exception):
    """Whatever a call fails by."""


class ConnectionFailed(ModelyardError):
    """No answer came, or nothing could be sent. The cause says why."""


class Unnamed(ModelyardError):
    """Nothing can be called so: the text is empty, or holds a slash."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"There is nothing called {text!r}.")


class UnexpectedAnswer(ModelyardError):
    """What answers is no Modelyard, or one of another version; the message says what was odd."""


class Refused(ModelyardError):
    """The server said no: `problem` is what it said, as problem details (RFC 9457)."""

    def __init__(self, answer: httpx.Response, problem: Mapping[str, Any] | None) -> None:
        self.status = answer.status_code
        self.problem = problem
        """None when it was not Modelyard who answered, for instance a proxy."""
        said = problem or {}
        self.title = str(said.get("title", answer.reason_phrase))
        self.detail = str(said.get("detail") or "")
        self.code = str(said.get("code") or "")
        """Names the kind of problem for programs."""
        self.path = answer.request.url.path
        super().__init__(f"{self.status} {self.title}: {self.detail}".rstrip(": "))


class Invalid(Refused):
    """400 or 422: the request itself is wrong; `problem["errors"]` names each field."""


class Denied(Refused):
    """401 or 403: no token, one that is good no more, or one that may not."""


class NotFound(Refused):
    """404 or 410: there is no such record in the caller's organisation."""


class Conflict(Refused):
    """409 or 412: the state of the record, or another record, is in the way."""


_KINDS = {400: Invalid, 422: Invalid, 401: Denied, 403: Denied, 404: NotFound, 410: NotFound}
_KINDS |= {409: Conflict, 412: Conflict}


def refusal(answer: httpx.Response) -> Refused:
    """The error that an answer of status 400 or more is. Its body must be read."""
    return _KINDS.get(answer.status_code, Refused)(answer, _problem(answer))


def _problem(answer: httpx.Response) -> dict[str, Any] | None:
    """As the server named it; None when it was somebody else who answered."""
    if answer.request.method == "HEAD" and not answer.content:
        # Such an answer has no body that could say more.
        return {"title": answer.reason_phrase or str(answer.status_code)}
    try:
        said = answer.json()
    except ValueError:
        return None
    return _as_problem(answer, said) if isinstance(said, dict) else None


def _as_problem(answer: httpx.Response, said: dict[str, Any]) -> dict[str, Any] | None:
    """Each family of paths has a form of its own for what goes wrong."""
    if "title" in said:
        return said
    if "message" in said and "statusCode" in said:
        problem = {"title": said["status"], "detail": said["message"]}
        # What was asked for was right, and a model or an image is not.
        is_outcome = said["statusCode"] == 422 and said.get("code") != "invalid_input"
        return problem | ({"technical": said["technicalInformation"]} if is_outcome else {})
    if said.get("success") is False:
        return {"title": answer.reason_phrase, "detail": said.get("error", "")}
    return None
