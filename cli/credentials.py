"""Which server is meant and who is calling: the environment, the local stack, or a kept login."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Generator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cli.console import DENIED, FAILED, refuse
from cli.server import TOKEN, URL, Server, decoded, shown

LOCAL = "http://127.0.0.1:8000"
EARLY = timedelta(seconds=30)
"""A token is renewed this long before it ends."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a server gave for a password, or a token that somebody had."""

    token: str
    refresh: str = ""
    """Renews `token`; empty for a token that somebody had."""
    expires_at: str = ""
    user: str = ""

    @classmethod
    def of(cls, session: dict[str, Any]) -> Login:
        """What `POST /login` and `POST /refresh` answer."""
        user = f"{session['user']}@{session['org']}"
        return cls(session["access"], session["refresh"], session["expires_at"], user)

    @property
    def is_over(self) -> bool:
        """It must be renewed before it is used."""
        return bool(self.refresh) and datetime.fromisoformat(self.expires_at) < (
            datetime.now(UTC) + EARLY
        )


class Logins:
    """Those that are kept: a file of the user's own, with an entry for each address."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "modelyard"
        self._file = folder / "logins.json"

    def read(self) -> dict[str, Login]:
        """By address, the newest last. Exits when the file is broken."""
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            return {url: Login(**login) for url, login in kept.items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            refuse(f"{self._file} cannot be read: {error.strerror}.", f"Set {TOKEN} instead.")
        except (ValueError, TypeError, AttributeError):
            refuse(f"{self._file} is broken.", "Remove it and log in again: modelyard login")

    def keep(self, url: str, login: Login | None, *, is_renewed: bool = False) -> None:
        """As the newest, unless it was only renewed; None forgets what is kept."""
        kept = self.read()
        if not is_renewed:
            kept.pop(url, None)
        if login is not None:
            kept[url] = login
        self._write(kept)

    def _write(self, kept: dict[str, Login]) -> None:
        """Whole or not at all, and for nobody else to read."""
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({url: asdict(each) for url, each in kept.items()}, file, indent=1)
            draft.replace(self._file)
        except OSError as error:
            refuse(f"{self._file} cannot be written: {error.strerror}.", code=FAILED)


class RenewedLogin(httpx.Auth):
    """Gives its token to each request, and renews it in time, as often as that is needed."""

    def __init__(self, url: str, login: Login) -> None:
        self._url = url
        self._login = login

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        if self._login.is_over:
            address = httpx.URL(self._url).join("/yard/v1/refresh")
            answer = yield httpx.Request("POST", address, json={"refresh": self._login.refresh})
            answer.read()
            if answer.is_success:
                self._login = Login.of(decoded(Server(self._url), answer.content))
                Logins().keep(self._url, self._login, is_renewed=True)
            elif answer.status_code == 401:
                refuse("The login has ended.", "Log in again: modelyard login", code=DENIED)
        request.headers["Authorization"] = f"Bearer {self._login.token}"
        yield request


def find_server() -> Server:
    """The environment counts first, then the stack of this folder, then the newest login.

    A token goes to the address that it belongs to and to no other. Exits when one of them holds
    what cannot be an address or a token.
    """
    given, token = os.environ.get(URL), os.environ.get(TOKEN)
    if given is not None and token is not None:
        return Server(checked_url(given), checked_token(token))
    local = _local_facts()
    logins = Logins().read() if URL not in local or given is not None else {}
    newest = next(reversed(logins), LOCAL)
    url = checked_url(given if given is not None else local.get(URL, newest))
    if token is None and url == local.get(URL):
        token = local.get(TOKEN, "")
    if token is None and url in logins:
        return Server(url, login=RenewedLogin(url, logins[url]))
    return Server(url, checked_token(token or ""))


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
