"""Live progress of one record, read from the event stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.client import Client, err, say
from cli.client_record import read_record
from cli.lines import STEP

Event = dict[str, Any]


class View(Protocol):
    def __enter__(self) -> View: ...

    def __exit__(self, *_: object) -> None: ...

    def draw(self, status: str, percentage: int | None) -> None: ...


def follow(
    client: Client,
    path: str,
    record: dict[str, Any],
    *,
    until: set[str],
    each: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Show what happens to `record` until its status is in `until`; returns it as it is then.

    Goes on when the server is restarted meanwhile.
    """
    if record["status"] in until:
        return record
    view: View = _Bar(record["status"]) if err.is_terminal else _Lines(silent=each is not None)
    with view:
        for event in client.events(id=record["uuid"]):
            data = event.data.get("data", event.data)
            view.draw(str(data.get("status") or ""), (data.get("progress") or {}).get("percentage"))
            if each is not None and event.event not in ("open", "reset"):
                each(event.data)
            current = read_record(client, f"/{path}/{record['uuid']}")
            if current["status"] in until:
                return current
    raise AssertionError("unreachable: the event stream has no end")


class _Bar:
    def __init__(self, status: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task(status, total=100)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def draw(self, status: str, percentage: int | None) -> None:
        self._progress.update(self._task, description=status, completed=percentage)


class _Lines:
    """Where no bar can be drawn: a line for each status, and for each quarter of a long one."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._said: tuple[str, int] = ("", 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def draw(self, status: str, percentage: int | None) -> None:
        reached = (status, (percentage or 0) // STEP)
        if self._silent or not status or reached == self._said:
            return
        self._said = reached
        say(err, status if percentage is None else f"{status} {percentage} %")
