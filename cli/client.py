"""The command line's client: that of programs, with exit codes for what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn
from uuid import UUID

import httpx
import typer

from cli.console import Part, echo, err, refuse
from cli.credentials import find_server
from cli.server import Server, exit_for
from modelyard.client import Call, Event, ModelyardError, UnexpectedAnswer
from modelyard.client.calls import AWAY, CALLED, RECONNECTIONS, decoded, given, pause_s, require
from modelyard.client.operations import Operations

__all__ = ["Client", "Kind", "Named", "SeveralNamed", "ask_container", "given"]

_LOST: Part = ("connection lost, resuming…", "yellow")

Named = Annotated[str, typer.Argument(help="Its name or its ID, or how that begins.")]
SeveralNamed = Annotated[list[str], typer.Argument(help="Names or IDs, or how these begin.")]
Kind = Literal["images", "containers", "deployments", "nodes"]


class Client(Operations):
    """Calls the server as whoever is calling is known there; exits for whatever goes wrong.

    Operations of `/yard/v1` are its methods. `call` and the like ask the other families of paths,
    below `root`: a path is its fixed part and, one by one, the pieces that people or servers named.
    """

    def __init__(self, root: str = "/yard/v1", server: Server | None = None) -> None:
        self._root = root
        self.server = server or find_server()
        self.url = self.server.url
        self.shown = self.server.shown
        super().__init__(self.server.connect(timeout=CALLED))

    def fail(self, error: ModelyardError) -> NoReturn:
        """Exits with what is wrong and what to do about it."""
        exit_for(self.server, error)

    def lost(self) -> None:
        echo(err, _LOST)

    def call(self, method: str, path: str, *pieces: str, **options: Any) -> Any:
        """The JSON object of the answer, if any, or exit with the problem that the server named."""
        answer = self.answer(method, path, *pieces, **options)
        return None if answer.status_code == 204 else self.decode(answer)

    def answer(self, method: str, path: str, *pieces: str, **options: Any) -> httpx.Response:
        """The good answer with its headers, or exit with the problem that the server named."""
        return self.send(self._asked(method, path, *pieces), **options)

    def items(
        self, path: str, *pieces: str, method: str = "GET", **options: Any
    ) -> list[dict[str, Any]]:
        """The JSON array of a good answer; exits as `call` does."""
        answer = self.answer(method, path, *pieces, **options)
        with self.errors():
            found: list[dict[str, Any]] = decoded(answer.content, self.fail, list)
        return found

    def require(self, answer: httpx.Response) -> None:
        """Exit with the problem that the server named, if it did."""
        with self.errors():
            require(answer)

    def decode(self, answer: httpx.Response) -> dict[str, Any]:
        """The JSON object of a good answer. Exits when it is none."""
        with self.errors():
            found: dict[str, Any] = decoded(answer.content, self.fail)
        return found

    def header(self, answer: httpx.Response, name: str) -> str:
        """A header of a good answer. Exits when there is none."""
        if name not in answer.headers:
            self.fail(UnexpectedAnswer(f"its answer has no header {name!r}"))
        return str(answer.headers[name])

    def pages(self, path: str, *, limit: int, **query: Any) -> list[Any]:
        """Items of a paged list, at most `limit` of them."""
        return list(self._pages(Call("GET", f"{self._root}{path}", query=query), limit))

    def path_to(self, kind: Kind, name: str) -> str:
        """The path of the record that is called so; exits as `id_of` does."""
        return f"/{kind}/{self.id_of(kind, name)}"

    def id_of(self, kind: Kind, name: str) -> str:
        """The ID of the record that is called so, as the server understands it. Exits when none is,
        or when it is not clear which.

        A name that looks like a whole ID is taken for one.
        """
        if not name:
            refuse("An empty text names nothing.", "Give a name or an ID.")
        try:
            return str(UUID(name))
        except ValueError:
            found = self.call("GET", f"/{kind}/find", params={"called": name})
        return str(found["uuid"])

    def patient_get(self, path: str, gone: dict[str, Any] | None = None) -> dict[str, Any]:
        """The record at `path`, read through the short absences of a server that restarts; `gone`
        where there is none any more.

        Exits when the server refuses, or stays away as for events.
        """
        for attempt in range(RECONNECTIONS):
            try:
                answer = self.http.get(f"{self._root}{path}")
                if answer.status_code == httpx.codes.NOT_FOUND and gone is not None:
                    return gone
                if answer.status_code not in AWAY:
                    self.require(answer)
                    return self.decode(answer)
            except httpx.TransportError:
                if attempt == 0:
                    self.lost()
            time.sleep(pause_s(attempt))
        last: dict[str, Any] = self.call("GET", path)
        return last

    def events(
        self, *, after: str | None = None, **query: str | list[str] | None
    ) -> Iterator[Event]:
        """Events from the durable stream; see `follow_events`."""
        return self._events(Call("GET", "/yard/v1/events", query=query), after)

    def _asked(self, method: str, path: str, *pieces: str) -> Call:
        fixed = f"{self._root}{path}".replace("{", "{{").replace("}", "}}")
        return Call(method, "/".join([fixed, *("{}" for _ in pieces)]), pieces)


@dataclass(frozen=True, slots=True)
class ContainerAnswer:
    """What a container said; `status` 0 means that nobody answered, and `text` why."""

    status: int
    text: str


def ask_container(method: str, url: str, body: Any = None, *, timeout_s: float) -> ContainerAnswer:
    """One request to a published port. Never raises for what the other side does."""
    try:
        answer = httpx.request(method, url, json=body, timeout=timeout_s, trust_env=False)
    except httpx.TransportError as error:
        return ContainerAnswer(0, str(error))
    return ContainerAnswer(answer.status_code, answer.text.strip())
