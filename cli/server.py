"""A server, and what goes wrong between here and there: one sentence, a remedy, an exit code."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import httpx
import typer

from cli.console import DENIED, FAILED, MISSING, UNREACHABLE, USAGE, echo, err, refuse

URL, TOKEN = "MODELYARD_URL", "MODELYARD_TOKEN"


@dataclass(frozen=True, slots=True)
class Server:
    """Its address, and the token that it knows us by, or what gives one to each request."""

    url: str
    token: str = ""
    login: httpx.Auth | None = None

    @property
    def is_local(self) -> bool:
        """On this machine, where no proxy leads."""
        host = httpx.URL(self.url).host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")
        return address.is_loopback or address.is_unspecified

    @property
    def shown(self) -> str:
        """Without a password that is part of it."""
        return shown(self.url)

    @property
    def proxy(self) -> str:
        """The proxy of the environment that leads there, or nothing."""
        url = httpx.URL(self.url)
        if self.is_local or proxy_bypass(url.host):
            return ""
        proxies = getproxies()
        found = proxies.get(url.scheme) or proxies.get("all", "")
        return shown(found) if "://" in found else found.rpartition("@")[2]

    def connect(self, **options: Any) -> httpx.Client:
        """Exits when proxy or certificates of the environment cannot be used."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with _environment_errors():
            if self.is_local:
                options["trust_env"] = False
                if self.url.startswith("https:"):
                    options["verify"] = httpx.create_ssl_context()
                else:
                    # Reading the certificates that nobody asks for takes longer than most calls.
                    options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return httpx.Client(base_url=self.url, headers=headers, auth=self.login, **options)


def shown(url: str) -> str:
    scheme, found, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{found}{host.rpartition('@')[2]}{slash}{path}" if found else url


@contextmanager
def _environment_errors() -> Iterator[None]:
    """Errors of settings that the HTTP library takes from the environment itself."""
    try:
        yield
    except ImportError:
        refuse(
            "SOCKS proxies are not supported.",
            "Unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY, or have them name an http proxy.",
        )
    except (httpx.InvalidURL, ValueError) as error:
        refuse(
            f"The proxy of the environment cannot be used: {error}.",
            "Look at ALL_PROXY, HTTP_PROXY and HTTPS_PROXY.",
        )
    except OSError as error:
        refuse(
            f"The certificates of the environment cannot be read: {error.strerror or error}.",
            "Look at SSL_CERT_FILE and SSL_CERT_DIR.",
        )


PROBLEM = "application/problem+json"

_EXITS = {401: DENIED, 403: DENIED, 404: MISSING, 410: MISSING, 422: USAGE, 400: USAGE}


class AnswerObject(dict[str, Any]):
    """An object of an answer. Exits where a command looks for what it does not hold."""

    def __init__(self, server: Server, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._server = server

    def __missing__(self, key: str) -> Any:
        not_modelyard(self._server, f"its answer holds no {key!r}")


def path_of(*fixed: str, pieces: tuple[str, ...]) -> str:
    """A path: its fixed parts, and pieces that may hold whatever people call things.

    Exits when a piece is empty, as without it the path would be another one, and when it holds a
    slash, which ends a piece even where it is quoted: no ID has one.
    """
    if not all(pieces):
        refuse("An empty text names nothing.", "Give a name or an ID.")
    for piece in pieces:
        if "/" in piece:
            refuse("Not Found:", f"There is no {piece}.", code=MISSING)
    return "/".join(["".join(fixed), *map(_quoted, pieces)])


def _quoted(piece: str) -> str:
    # Dots by themselves mean folders, and are taken out of the path before it is sent.
    return quote(piece, safe="") if piece.strip(".") else piece.replace(".", "%2E")


@contextmanager
def connection_errors(server: Server) -> Iterator[None]:
    """Exits, with what it means, for an error of a connection or of a request to be sent."""
    try:
        yield
    except (httpx.RequestError, UnicodeEncodeError) as error:
        unreachable(server, error)


def unreachable(server: Server, error: Exception) -> NoReturn:
    """Exits with why no answer came, or why nothing could be asked."""
    if isinstance(error, UnicodeEncodeError | httpx.LocalProtocolError):
        _refuse_unsendable(error)
    through = f" through the proxy {server.proxy}" if server.proxy else ""
    what, remedy = _diagnosis(server, error)
    refuse(f"{what}{through}", f"({error}). {remedy}", code=UNREACHABLE)


def _refuse_unsendable(error: Exception) -> NoReturn:
    """It is not repeated what it was: it can be a password."""
    if isinstance(error, UnicodeEncodeError) and error.encoding.startswith("utf"):
        refuse("What was given is no UTF-8 text", "and cannot be sent.")
    what = "A value for a header of the request cannot be sent"
    refuse(what, ": it may hold ASCII characters only, and no line break.")


def _diagnosis(server: Server, error: Exception) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    doctor, look = "Look at: modelyard doctor", f"Look at {URL}."
    cause = _cause(error)
    if isinstance(error, httpx.TimeoutException):
        return f"{server.shown} did not answer in time", doctor
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = "Set SSL_CERT_FILE to the certificate of who signed it."
        return f"The certificate of {server.shown} is not trusted", remedy
    if isinstance(cause, ssl.SSLError):
        remedy = f"Does its address begin with http:// instead? {look}"
        return f"{server.shown} does not speak TLS", remedy
    if isinstance(cause, socket.gaierror) and not server.proxy:
        return f"There is no host {httpx.URL(server.url).host}", look
    if isinstance(error, httpx.ProxyError) or (cause is not None and server.proxy):
        remedy = "Look at the variables ALL_PROXY, HTTP_PROXY, HTTPS_PROXY and NO_PROXY."
        return f"{server.shown} cannot be reached", remedy
    if isinstance(error, httpx.ConnectError):
        remedy = "Start it with: modelyard up" if server.is_local else look
        return f"Nothing answers at {server.shown}", remedy
    return f"The connection to {server.shown} was lost", doctor


def _cause(error: BaseException) -> OSError | None:
    """The error of the system behind it."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.__cause__ or below.__context__
    return below


def not_modelyard(server: Server, why: str) -> NoReturn:
    """Exits for a server that is another one, or of another version."""
    what = f"What answers at {server.shown} is no Modelyard that this command knows"
    refuse(what, f": {why}. Look at {URL}.", code=FAILED)


def decoded(server: Server, text: str | bytes, kind: type = AnswerObject) -> Any:
    """A JSON object, or a value of another kind. Exits when it is none."""
    try:
        value = json.loads(text, object_hook=partial(AnswerObject, server))
    except (ValueError, RecursionError):
        not_modelyard(server, "its answer is no JSON")
    if not isinstance(value, kind):
        not_modelyard(server, "its answer is no JSON object")
    return value


def require(server: Server, answer: httpx.Response) -> None:
    """Exit with the problem that the server named, if it did."""
    if answer.is_redirect:
        not_modelyard(server, f"it points to {answer.headers.get('location', 'nowhere')}")
    if answer.is_error:
        _exit_with_problem(server, answer)


def _exit_with_problem(server: Server, answer: httpx.Response) -> NoReturn:
    problem = _problem(answer)
    code = _EXITS.get(answer.status_code, FAILED)
    if problem is None:
        # That there is nothing at a path of ours says nothing about what was asked for.
        code = FAILED if code in (MISSING, USAGE) else code
        status = f"{answer.status_code} {answer.reason_phrase}".strip()
        what = f"{server.shown} answers {status}"
        refuse(what, f", but not as Modelyard. Look at {URL}.", code=code)
    if "technical" in problem:
        code = FAILED
    detail = str(problem.get("detail", ""))
    echo(err, (f"{problem['title']}:", "red"), f" {detail}")
    if detail not in problem.get("technical", detail):
        echo(err, f"  {problem['technical']}")
    if answer.status_code == 401 and not answer.request.url.path.endswith("/login"):
        echo(err, f"Set {TOKEN}, or log in: modelyard login")
    for item in problem.get("errors") or []:
        message = str(item.get("message"))
        line = f"{item.get('field')}: {message}"
        # The detail is the one message, or repeats the first few of them.
        if message != detail and line not in detail.split("; "):
            echo(err, f"  {line}")
    raise typer.Exit(code)


def _problem(answer: httpx.Response) -> dict[str, Any] | None:
    """As the server named it; None when it was somebody else who answered."""
    if answer.request.method == "HEAD" and not answer.content:
        # Such an answer has no body that could say more.
        return {"title": answer.reason_phrase or str(answer.status_code)}
    try:
        problem = answer.json()
    except ValueError:
        return None
    return _as_problem(answer, problem) if isinstance(problem, dict) else None


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
