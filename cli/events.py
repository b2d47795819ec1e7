"""`modelyard events`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.client import Client, ServerSentEvent, out, say
from cli.show import field

RESOURCES = (
    *("container", "image", "model", "model-file", "model-version", "node", "registry"),
    *("registry-history", "secret", "token", "upload", "user"),
)
"""As the records call them. They are not asked: that would load them for every command."""


def events(
    resource: Annotated[str | None, typer.Option(help="For instance image or container.")] = None,
    id: Annotated[str | None, typer.Option(help="Only this record.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only kinds that begin like this.")] = None,
    after: Annotated[str | None, typer.Option(help="Resume after this event id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Follow what happens, over every image, container and node of the organisation."""
    if resource is not None and resource not in RESOURCES:
        known = ", ".join(RESOURCES)
        raise typer.BadParameter(f"there is no {resource!r}; known are {known}.")
    for event in Client().events(after=after, resource=resource, id=id, kind=kind):
        if event.event == "open":
            continue
        if as_json:
            print(json.dumps({**event.data, "event_id": event.id}), flush=True)
            continue
        data = event.data.get("data", event.data)
        reason = field("reason")(data) or ""
        told = f" {data.get('name', '')} {data.get('status', '')} {reason}"
        say(out, (event.id, "dim"), " ", (_name(event), "bold"), told)


def _name(event: ServerSentEvent) -> str:
    """`image.ready`; frames about the stream itself, such as `reset`, are named as they are."""
    if "kind" in event.data:
        return f"{event.data['resource']}.{event.data['kind']}"
    return event.event
