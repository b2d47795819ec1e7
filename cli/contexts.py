"""The servers that somebody uses, each by a name with the login there: a file of the user's own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import httpx

from cli.console import DENIED, FAILED, MISSING, refuse
from cli.server import TOKEN, Server, exit_for
from modelyard.client.calls import decoded
from modelyard.client.errors import ModelyardError

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


@dataclass(frozen=True, slots=True)
class Context:
    """A server by the name that its user gave it, and the login there."""

    name: str
    url: str
    login: Login


@dataclass(slots=True)
class Kept:
    """All contexts by name, in the order in which they came, and the name of the one in use."""

    current: str = ""
    contexts: dict[str, Context] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Kept:
        """Raises ValueError, TypeError, KeyError or AttributeError for what is none."""
        said = json.loads(text)
        contexts = {
            name: Context(name, each["url"], Login(**each["login"]))
            for name, each in said["contexts"].items()
        }
        return cls(str(said["current"]), contexts)

    def written(self) -> str:
        contexts = {
            name: {"url": each.url, "login": asdict(each.login)}
            for name, each in self.contexts.items()
        }
        return json.dumps({"current": self.current, "contexts": contexts}, indent=1)

    def get(self, name: str) -> Context:
        """Exits when there is none of this name."""
        if name not in self.contexts:
            known = ", ".join(self.contexts) or "none"
            refuse(f"There is no context {name!r}.", f"Known: {known}.", code=MISSING)
        return self.contexts[name]

    def at(self, url: str) -> Context | None:
        """A context of this address: the one in use, or else the newest."""
        found = [each for each in self.contexts.values() if each.url == url]
        found.sort(key=lambda each: each.name == self.current)
        return found[-1] if found else None

    def in_use(self) -> Context | None:
        return self.contexts.get(self.current)


class Contexts:
    """The file that keeps them, mode 0600. Exits when it cannot be used."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "modelyard"
        self._file = folder / "contexts.json"

    def read(self) -> Kept:
        try:
            return Kept.read(self._file.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return Kept()
        except OSError as error:
            refuse(f"{self._file} cannot be read: {error.strerror}.", f"Set {TOKEN} instead.")
        except (ValueError, TypeError, KeyError, AttributeError):
            refuse(f"{self._file} is broken.", "Remove it and log in again: modelyard login")

    @contextmanager
    def change(self) -> Iterator[Kept]:
        """What is kept, written again when the block ends well; one process at a time."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._file.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            self._refuse_unwritten(error)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self.read()
            yield kept
            self._write(kept.written())
        finally:
            os.close(lock)

    def keep(self, context: Context) -> None:
        """As the newest, and the one in use from now on."""
        with self.change() as kept:
            kept.contexts.pop(context.name, None)
            kept.contexts[context.name] = context
            kept.current = context.name

    def forget(self, name: str) -> None:
        """Exits when there is none of this name. What is in use is none then, if it was this."""
        with self.change() as kept:
            kept.get(name)
            del kept.contexts[name]
            if kept.current == name:
                kept.current = ""

    def renew(self, name: str, login: Login) -> None:
        """Another login of a context; nothing when it was forgotten meanwhile."""
        with self.change() as kept:
            if name in kept.contexts:
                kept.contexts[name] = Context(name, kept.contexts[name].url, login)

    def _write(self, text: str) -> None:
        """Whole or not at all, and for nobody else to read."""
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            draft.replace(self._file)
        except OSError as error:
            self._refuse_unwritten(error)

    def _refuse_unwritten(self, error: OSError) -> NoReturn:
        refuse(f"{self._file} cannot be written: {error.strerror}.", code=FAILED)


class RenewedLogin(httpx.Auth):
    """Gives its token to each request, and renews it in time, as often as that is needed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._login = context.login

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        if self._login.is_over:
            address = httpx.URL(self._context.url).join("/yard/v1/refresh")
            answer = yield httpx.Request("POST", address, json={"refresh": self._login.refresh})
            answer.read()
            if answer.is_success:
                self._login = Login.of(decoded(answer.content, self._fail))
                Contexts().renew(self._context.name, self._login)
            elif answer.status_code == 401:
                refuse("The login has ended.", "Log in again: modelyard login", code=DENIED)
        request.headers["Authorization"] = f"Bearer {self._login.token}"
        yield request

    def _fail(self, error: ModelyardError) -> NoReturn:
        exit_for(Server(self._context.url), error)
