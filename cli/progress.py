"""Live progress of one record, read from the event stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.client import Client, err


def follow(
    client: Client,
    path: str,
    record: dict[str, Any],
    *,
    until: set[str],
    each: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Show what happens to `record` until its status is in `until`; returns it as it is then."""
    if record["status"] in until:
        return record
    with _bar() as bar:
        task = bar.add_task(record["status"], total=100)
        for event in client.events(id=record["uuid"]):
            _draw(bar, task, event.data)
            if each is not None and event.event not in ("open", "reset"):
                each(event.data)
            current: dict[str, Any] = client.call("GET", f"/{path}/{record['uuid']}")
            if current["status"] in until:
                return current
    raise AssertionError("unreachable: the event stream has no end")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )


def _draw(bar: Progress, task: TaskID, event: dict[str, Any]) -> None:
    data = event.get("data", event)
    percentage = (data.get("progress") or {}).get("percentage")
    bar.update(task, description=str(data.get("status", "")), completed=percentage)
