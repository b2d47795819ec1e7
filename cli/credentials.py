"""Which server is meant and who is calling: an option, the environment, the local stack, or a
context."""

from __future__ import annotations

import os
import shlex
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx

from cli.console import refuse
from cli.contexts import Context, Contexts, RenewedLogin
from cli.server import TOKEN, URL, Server, shown

LOCAL = "http://127.0.0.1:8000"
CONTEXT = "MODELYARD_CONTEXT"


class Origin(StrEnum):
    """What said which server is meant."""

    OPTION = "--context"
    ENVIRONMENT = URL
    CONTEXT_VARIABLE = CONTEXT
    STACK = "the stack of this folder"
    CURRENT = "modelyard contexts use"
    DEFAULT = "nothing"


@dataclass(frozen=True, slots=True)
class Choice:
    """A server and its caller, what said so, and the context, if it is one."""

    server: Server
    origin: Origin
    context: str = ""


CHOSEN: ContextVar[str | None] = ContextVar("CHOSEN", default=None)
"""The context that `--context` names."""


def find_server() -> Server:
    """The one that counts most; see `find_choice`."""
    return find_choice().server


def find_choice() -> Choice:
    """`--context` counts most, then the environment, the stack of this folder, and the context in
    use.

    A token goes to the address that it belongs to and to no other. Exits when one of them holds
    what cannot be an address or a token.
    """
    if (chosen := CHOSEN.get()) is not None:
        return _of(Contexts().read().get(chosen), Origin.OPTION)
    given, token = os.environ.get(URL), os.environ.get(TOKEN)
    if given is not None:
        return Choice(_at(checked_url(given), token), Origin.ENVIRONMENT)
    if name := os.environ.get(CONTEXT):
        return _of(Contexts().read().get(name), Origin.CONTEXT_VARIABLE, token)
    local = _local_facts()
    if URL in local:
        found = checked_token(local.get(TOKEN, "") if token is None else token)
        return Choice(Server(checked_url(local[URL]), found), Origin.STACK)
    if context := Contexts().read().in_use():
        return _of(context, Origin.CURRENT, token)
    return Choice(Server(LOCAL, checked_token(token or "")), Origin.DEFAULT)


def _of(context: Context, origin: Origin, token: str | None = None) -> Choice:
    if token is not None:
        return Choice(Server(context.url, checked_token(token)), origin, context.name)
    server = Server(context.url, login=RenewedLogin(context))
    return Choice(server, origin, context.name)


def _at(url: str, token: str | None) -> Server:
    """With the token that is known for this address, unless one is given."""
    if token is not None:
        return Server(url, checked_token(token))
    local = _local_facts()
    if url == local.get(URL):
        return Server(url, checked_token(local.get(TOKEN, "")))
    context = Contexts().read().at(url)
    return Server(url) if context is None else Server(url, login=RenewedLogin(context))


def _local_facts() -> dict[str, str]:
    """What the running local stack wrote down."""
    path = Path(os.environ.get("MODELYARD_STATE") or ".modelyard") / "env"
    remedy = f"Start the stack anew, or set {URL} and {TOKEN}."
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        refuse(f"{path} cannot be read: {error.strerror}.", remedy)
    except ValueError:
        refuse(f"{path} is no UTF-8 text.", remedy)
    facts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, found, value = line.removeprefix("export ").partition("=")
        try:
            if found:
                facts[name] = "".join(shlex.split(value))
        except ValueError:
            refuse(f"Line {number} of {path} has a quotation mark too few.", remedy)
    return facts


def checked_url(text: str) -> str:
    """An address that can be connected to, as far as it can be seen from its looks."""
    text = text.strip()
    remedy = f"Set {URL} to something like {LOCAL}, or unset it for the stack of this folder."
    if not text:
        refuse(f"{URL} is empty.", remedy)
    try:
        url = httpx.URL(text)
        # What the resolver refuses by an error of its own.
        url.host.encode("idna")
    except (httpx.InvalidURL, ValueError):
        refuse(f"{URL} is no address: {shown(text)!r}.", remedy)
    is_port = url.port is None or 0 < url.port < 2**16
    if url.scheme not in ("http", "https") or not url.host or not is_port:
        refuse(f"{URL} is no http address: {shown(text)!r}.", remedy)
    return text


def checked_token(text: str) -> str:
    """Without blanks around it. What else is wrong is told without showing any of it."""
    token = text.strip()
    if not all("!" <= sign <= "~" for sign in token):
        remedy = "Copy it again, whole and by itself."
        refuse(f"{TOKEN} holds characters that no token has.", remedy)
    return token
