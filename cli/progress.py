"""Live progress on standard error: a bar on a terminal, a few lines where none can be drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.client import Client
from cli.console import echo, err, human_bytes

TICK_S = 0.5
STEP = 25
"""Percent between two lines."""

Event = dict[str, Any]
Draw = Callable[[str, int | None], None]
"""Shows a status and how many percent of it are done."""


def follow(
    client: Client,
    path: str,
    record: dict[str, Any],
    *,
    until: set[str],
    each: Callable[[Event], None] | None = None,
    look: Callable[[Event], None] | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Show what happens to `record` until its status is in `until`, or the time is over; returns it
    as it is then.

    `each` hears the events instead where no bar can be drawn; `look` sees the record after every
    one. Goes on when the server is restarted meanwhile.
    """
    if has_settled(record, until):
        return record
    # Some kinds of records are not shown any more once they are deleted.
    gone = {**record, "status": "DELETED"} if "DELETED" in until else None
    with drawn(record["status"], silent=each is not None) as draw:
        told = _told(client, record["uuid"], each) if timeout_s is None else _ticks(timeout_s)
        for data in told:
            current = client.patient_get(f"/{path}/{record['uuid']}", gone)
            data = current if timeout_s is not None else data
            # What is over is at no percentage of anything.
            progress = None if data.get("status") in until else data.get("progress")
            draw(str(data.get("status") or ""), (progress or {}).get("percentage"))
            if look is not None:
                look(current)
            if has_settled(current, until):
                return current
    return client.patient_get(f"/{path}/{record['uuid']}", gone)


def has_settled(record: dict[str, Any], until: set[str]) -> bool:
    """A container that still has to be restarted is not yet what its status says."""
    return record["status"] in until and record.get("restart_at") is None


def _told(client: Client, uuid: str, each: Callable[[Event], None] | None) -> Iterator[Event]:
    """What each event about a record says."""
    for event in client.events(id=uuid):
        if each is not None and event.event not in ("open", "reset"):
            each(event.data)
        yield event.data.get("data", event.data)


def _ticks(timeout_s: float) -> Iterator[Event]:
    """Moments to look at a record, as long as the time is not over."""
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(TICK_S, left))
        yield {}


class _Speed(ProgressColumn):
    """In the units of everything else; the library's own column counts in thousands."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{human_bytes(speed)}/s" if speed else "")


class UploadProgress(Protocol):
    """Is told how far an upload is."""

    def reading(self, done: int) -> None:
        """Of what comes on standard input nobody knows the end."""

    def sending(self, done: int, total: int) -> None:
        """Begins, or goes on, at `done` bytes of the archive."""

    def moved(self, done: int) -> None: ...

    def waiting(self, reason: str) -> None:
        """Nothing moves for now; empty when it moves again."""

    def checking(self) -> None:
        """Everything is sent; the server has not said yet what it thinks of it."""


@contextmanager
def upload_progress() -> Iterator[UploadProgress]:
    """A bar for as long as it is entered, or lines."""
    if not err.is_terminal:
        yield UploadLines(partial(echo, err))
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        DownloadColumn(binary_units=True),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[why]}", markup=False),
        console=err,
        transient=True,
    ) as bar:
        yield UploadBar(bar)


class UploadBar:
    """How much, how fast, how long still."""

    def __init__(self, bar: Progress) -> None:
        task = bar.add_task("looking", total=None, why="")
        self._update = partial(bar.update, task)
        self._reset = partial(bar.reset, task)

    def reading(self, done: int) -> None:
        self._update(description="reading", completed=done)

    def sending(self, done: int, total: int) -> None:
        # The speed counts from here: what was there already was not sent.
        self._reset(description="uploading", completed=done, total=total, why="")

    def moved(self, done: int) -> None:
        self._update(completed=done)

    def waiting(self, reason: str) -> None:
        self._update(why=reason)

    def checking(self) -> None:
        self._update(description="checking", why="")


class UploadLines:
    """A line for each quarter; `write` gets it."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._total = 1
        self._reached = -STEP
        self._reason = ""

    def reading(self, done: int) -> None:
        """There is no quarter of what has no known end."""

    def sending(self, done: int, total: int) -> None:
        self._total = total
        self.moved(done)

    def moved(self, done: int) -> None:
        percentage = 100 * done // max(1, self._total)
        if percentage >= self._reached + STEP:
            self._reached = percentage // STEP * STEP
            self._write(f"uploading: {percentage} % of {human_bytes(self._total)}")

    def waiting(self, reason: str) -> None:
        if reason and reason != self._reason:
            self._write(reason)
        self._reason = reason

    def checking(self) -> None:
        self._write("all is sent; layers, digests and manifest are being checked")


@contextmanager
def drawn(status: str, *, silent: bool = False) -> Iterator[Draw]:
    """A bar for as long as it is entered, or lines; none when somebody else tells about it."""
    if not err.is_terminal:
        yield _silent if silent else _lines()
        return
    with Progress(
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task(status, total=100)
        yield lambda status, percentage: bar.update(task, description=status, completed=percentage)


def _silent(status: str, percentage: int | None) -> None:
    """Somebody else tells about it."""


def _lines() -> Draw:
    """A line for each status, and for each quarter of a long one."""
    last = ("", 0)

    def draw(status: str, percentage: int | None) -> None:
        nonlocal last
        reached = (status, (percentage or 0) // STEP)
        if status and reached != last:
            last = reached
            echo(err, status if percentage is None else f"{status} {percentage} %")

    return draw
