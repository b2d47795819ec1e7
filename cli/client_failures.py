"""What went wrong between here and a server: one sentence, a remedy and the exit code."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import typer

from cli.client_place import URL, Place
from cli.console import DENIED, FAILED, MISSING, UNREACHABLE, USAGE, err, refuse, say

PROBLEM = "application/problem+json"

_EXITS = {401: DENIED, 403: DENIED, 404: MISSING, 410: MISSING, 422: USAGE, 400: USAGE}


class Answered(dict[str, Any]):
    """An object of an answer. Exits where a command looks for what it does not hold."""

    def __init__(self, place: Place, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._place = place

    def __missing__(self, key: str) -> Any:
        raise strange(self._place, f"its answer holds no {key!r}")


def path_of(path: str, pieces: tuple[str, ...]) -> str:
    """A path of the API: its fixed part, and pieces that may hold whatever people call things.

    Exits when a piece is empty, as without it the path would be another one, and when it holds a
    slash, which ends a piece even where it is quoted: no ID has one.
    """
    if not all(pieces):
        refuse("An empty text names nothing.", "Give a name or an ID.")
    for piece in pieces:
        if "/" in piece:
            say(err, ("Not Found:", "red"), f" There is no {piece}.")
            raise typer.Exit(MISSING)
    return "/yard/v1" + "/".join([path, *map(_quoted, pieces)])


def _quoted(piece: str) -> str:
    # Dots by themselves mean folders, and are taken out of the path before it is sent.
    return quote(piece, safe="") if piece.strip(".") else piece.replace(".", "%2E")


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Exits, with what it means, for an error of a connection or of a request to be sent."""
    try:
        yield
    except (httpx.RequestError, UnicodeEncodeError) as error:
        raise unreachable(place, error) from error


def unreachable(place: Place, error: Exception) -> typer.Exit:
    """Says why; raise what it returns."""
    if isinstance(error, UnicodeEncodeError | httpx.LocalProtocolError):
        return _unsendable(error)
    through = f" through the proxy {place.proxy}" if place.proxy else ""
    what, remedy = _diagnosis(place, error)
    say(err, (f"{what}{through}", "red"), f" ({error}). {remedy}")
    return typer.Exit(UNREACHABLE)


def _unsendable(error: Exception) -> typer.Exit:
    """It is not repeated what it was: it can be a password."""
    if isinstance(error, UnicodeEncodeError) and error.encoding.startswith("utf"):
        say(err, ("What was given is no UTF-8 text", "red"), " and cannot be sent.")
    else:
        what = "A value for a header of the request cannot be sent"
        say(err, (what, "red"), ": it may hold ASCII characters only, and no line break.")
    return typer.Exit(USAGE)


def _diagnosis(place: Place, error: Exception) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    doctor, look = "Look at: modelyard doctor", f"Look at {URL}."
    cause = _cause(error)
    if isinstance(error, httpx.TimeoutException):
        return f"{place.shown} did not answer in time", doctor
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "Set SSL_CERT_FILE to the certificate of who signed it."
        return f"The certificate of {place.shown} is not trusted", remedy
    if isinstance(cause, ssl.SSLError):
        remedy = f"Does its address begin with http:// instead? {look}"
        return f"{place.shown} does not speak TLS", remedy
    if isinstance(cause, socket.gaierror) and not place.proxy:
        return f"There is no host {httpx.URL(place.url).host}", look
    if isinstance(error, httpx.ProxyError) or (cause is not None and place.proxy):
        remedy = "Look at the variables ALL_PROXY, HTTP_PROXY, HTTPS_PROXY and NO_PROXY."
        return f"{place.shown} cannot be reached", remedy
    if isinstance(error, httpx.ConnectError):
        remedy = "Start it with: modelyard up" if place.is_local else look
        return f"Nothing answers at {place.shown}", remedy
    return f"The connection to {place.shown} was lost", doctor


def _cause(error: BaseException) -> OSError | None:
    """The error of the system behind it."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.__cause__ or below.__context__
    return below


def strange(place: Place, why: str) -> typer.Exit:
    """For a server that is another one, or of another version; raise what it returns."""
    what = f"What answers at {place.shown} is no Modelyard that this command knows"
    say(err, (what, "red"), f": {why}. Look at {URL}.")
    return typer.Exit(FAILED)


def decoded(place: Place, text: str | bytes) -> Answered:
    """A JSON object. Exits when it is none."""
    try:
        value = json.loads(text, object_hook=partial(Answered, place))
    except (ValueError, RecursionError) as error:
        raise strange(place, "its answer is no JSON") from error
    if not isinstance(value, Answered):
        raise strange(place, "its answer is no JSON object")
    return value


def require(place: Place, answer: httpx.Response) -> None:
    """Exit with the problem that the server named, if it did."""
    if answer.is_redirect:
        raise strange(place, f"it points to {answer.headers.get('location', 'nowhere')}")
    if answer.is_error:
        raise _told(place, answer)


def _told(place: Place, answer: httpx.Response) -> typer.Exit:
    problem = _problem(answer)
    if problem is None:
        return _foreign(place, answer)
    detail = str(problem.get("detail", ""))
    say(err, (f"{problem['title']}:", "red"), f" {detail}")
    for item in problem.get("errors") or []:
        message = str(item.get("message"))
        line = f"{item.get('field')}: {message}"
        # The detail is the one message, or repeats the first few of them.
        if message != detail and line not in detail.split("; "):
            say(err, f"  {line}")
    return typer.Exit(_EXITS.get(answer.status_code, FAILED))


def _problem(answer: httpx.Response) -> dict[str, Any] | None:
    """As the server named it; None when it was somebody else who answered."""
    if answer.request.method == "HEAD" and not answer.content:
        # Such an answer has no body that could say more.
        return {"title": answer.reason_phrase or str(answer.status_code)}
    try:
        problem = answer.json()
    except ValueError:
        return None
    return problem if isinstance(problem, dict) and "title" in problem else None


def _foreign(place: Place, answer: httpx.Response) -> typer.Exit:
    """That there is nothing at a path of ours says nothing about what was asked for."""
    said = f"{answer.status_code} {answer.reason_phrase}".strip()
    code = _EXITS.get(answer.status_code, FAILED)
    say(err, (f"{place.shown} answers {said}", "red"), f", but not as Modelyard. Look at {URL}.")
    return typer.Exit(FAILED if code in (MISSING, USAGE) else code)
