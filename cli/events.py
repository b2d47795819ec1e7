"""`modelyard events`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.client import Client, out
from cli.show import field


def events(
    resource: Annotated[str | None, typer.Option(help="For instance image or container.")] = None,
    id: Annotated[str | None, typer.Option(help="Only this record.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only kinds that begin like this.")] = None,
    after: Annotated[str | None, typer.Option(help="Resume after this event id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Follow what happens, over every image, container and node of the organisation."""
    for event in Client().events(after=after, resource=resource, id=id, kind=kind):
        if event.event == "open":
            continue
        if as_json:
            print(json.dumps({"id": event.id, "event": event.event, **event.data}), flush=True)
            continue
        data = event.data.get("data", event.data)
        reason = field("reason")(data) or ""
        out.print(
            f"[dim]{event.id}[/] [bold]{event.event}[/] {data.get('name', '')}"
            f" {data.get('status', '')} {reason}",
            highlight=False,
        )
