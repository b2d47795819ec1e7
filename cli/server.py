"""A server, and what goes wrong between here and there: one sentence, a remedy, an exit code."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.request import getproxies, proxy_bypass

import httpx
import typer

from cli.console import DENIED, FAILED, MISSING, UNREACHABLE, USAGE, echo, err, refuse
from modelyard.client.errors import ModelyardError, Refused, UnexpectedAnswer, Unnamed

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


_EXITS = {401: DENIED, 403: DENIED, 404: MISSING, 410: MISSING, 422: USAGE, 400: USAGE}


def exit_for(server: Server, error: ModelyardError) -> NoReturn:
    """Exits with what is wrong and, where that is known, what to do about it."""
    if isinstance(error, Refused):
        _exit_with_problem(server, error)
    if isinstance(error, Unnamed):
        if error.text:
            refuse("Not Found:", f"There is no {error.text}.", code=MISSING)
        refuse("An empty text names nothing.", "Give a name or an ID.")
    if isinstance(error, UnexpectedAnswer):
        what = f"What answers at {server.shown} is no Modelyard that this command knows"
        refuse(what, f": {error}. Look at {URL}.", code=FAILED)
    _unreachable(server, error.__cause__ or error)


def _unreachable(server: Server, error: BaseException) -> NoReturn:
    """Exits with why no answer came, or why nothing could be asked."""
    if isinstance(error, UnicodeEncodeError | httpx.LocalProtocolError):
        _refuse_unsendable(error)
    through = f" through the proxy {server.proxy}" if server.proxy else ""
    what, remedy = _diagnosis(server, error)
    refuse(f"{what}{through}", f"({error}). {remedy}", code=UNREACHABLE)


def _refuse_unsendable(error: BaseException) -> NoReturn:
    """It is not repeated what it was: it can be a password."""
    if isinstance(error, UnicodeEncodeError) and error.encoding.startswith("utf"):
        refuse("What was given is no UTF-8 text", "and cannot be sent.")
    what = "A value for a header of the request cannot be sent"
    refuse(what, ": it may hold ASCII characters only, and no line break.")


def _diagnosis(server: Server, error: BaseException) -> tuple[str, str]:
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


def _exit_with_problem(server: Server, error: Refused) -> NoReturn:
    problem, code = error.problem, _EXITS.get(error.status, FAILED)
    if problem is None:
        # That there is nothing at a path of ours says nothing about what was asked for.
        code = FAILED if code in (MISSING, USAGE) else code
        what = f"{server.shown} answers {error.status} {error.title}".strip()
        refuse(what, f", but not as Modelyard. Look at {URL}.", code=code)
    if "technical" in problem:
        code = FAILED
    echo(err, (f"{error.title}:", "red"), f" {error.detail}")
    if error.detail not in problem.get("technical", error.detail):
        echo(err, f"  {problem['technical']}")
    if error.status == 401 and not error.path.endswith("/login"):
        echo(err, f"Set {TOKEN}, or log in: modelyard login")
    for item in problem.get("errors") or []:
        message = str(item.get("message"))
        line = f"{item.get('field')}: {message}"
        # The detail is the one message, or repeats the first few of them.
        if message != error.detail and line not in error.detail.split("; "):
            echo(err, f"  {line}")
    raise typer.Exit(code)
