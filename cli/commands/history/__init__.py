"""`modelyard timeline` and `modelyard watch`: what happened to one record, and what does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from cli.client import Client, given
from cli.console import AsJson, Item, as_document, echo, err, field, out, refuse

COLLECTIONS: Final = (
    *("builds", "catalog", "containers", "deployments", "images", "model-versions", "models"),
    *("nodes", "organisations", "registries", "secrets", "tokens", "uploads", "users"),
    *("volumes", "webhooks"),
)
_FOUND: Final = ("images", "containers", "deployments", "nodes")
_NAMED: Final = ("organisations", "registries", "secrets", "users", "webhooks")

Resource = Annotated[
    str, typer.Argument(metavar="RESOURCE", help="For instance images, containers, builds.")
]
Named = Annotated[str, typer.Argument(metavar="ID", help="Its ID, or its name if it has one.")]


def timeline(resource: Resource, id: Named, as_json: AsJson = False) -> None:
    """Every event of a record, from its submission on, with the time between them.

    For instance: modelyard timeline images classifier
    """
    client = Client()
    kind = _collection(resource)
    pages = list(_pages(client, kind, _id_of(client, kind, id)))
    events = [event for page in pages for event in page["events"]]
    if as_json:
        whole = {**pages[-1], "complete": pages[0]["complete"], "events": events}
        as_document({name: value for name, value in whole.items() if name != "next"})
        return
    for event in events:
        _show(event, event["elapsed_s"], event["since_previous_s"])
    if not pages[0]["complete"]:
        echo(err, "Events before these are kept no more.")


def watch(
    resource: Resource,
    id: Named,
    until: Annotated[
        list[str] | None,
        typer.Option(help="End with this status or kind of event; repeat for more."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """The timeline of a record as it grows. Goes on when the server is restarted meanwhile.

    For instance: modelyard watch images classifier --until READY --until FAILED
    """
    client = Client()
    kind = _collection(resource)
    known = _id_of(client, kind, id)
    begun: datetime | None = None
    last: datetime | None = None
    for event in _growing(client, kind, known):
        time = datetime.fromisoformat(event["time"])
        begun, last = begun or time, last or time
        if as_json:
            print(json.dumps(event), flush=True)
        else:
            _show(event, (time - begun).total_seconds(), (time - last).total_seconds())
        last = time
        if {event["kind"], field("data.status")(event)} & set(until or ()):
            return


def _growing(client: Client, kind: str, id: str) -> Iterator[Item]:
    """What happened, then what happens: nothing twice, and nothing left out."""
    resume = ""
    for page in _pages(client, kind, id):
        resume = page["resume"]
        yield from page["events"]
    for event in client.events(after=resume, id=id):
        if "kind" in event.data:
            yield event.data


def _pages(client: Client, kind: str, id: str) -> Iterator[Item]:
    cursor: str | None = None
    while True:
        page = client.call("GET", f"/{kind}", id, "timeline", params=given(cursor=cursor))
        yield page
        cursor = page["next"]
        if cursor is None:
            return


def _show(event: Item, elapsed_s: float, since_s: float) -> None:
    time = datetime.fromisoformat(event["time"]).astimezone()
    data: Any = event.get("data")
    data = data if isinstance(data, dict) else {}
    told = " ".join(str(data[name]) for name in ("status", "reason") if data.get(name))
    echo(
        out,
        (f"{time:%Y-%m-%d %H:%M:%S}", "dim"),
        f" {_seconds(elapsed_s):>9} {'+' + _seconds(since_s):>9} ",
        (event["kind"], "bold"),
        f" {told}" if told else "",
        (f" ({event['actor']})" if event.get("actor") else "", "dim"),
    )


def _seconds(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `4m 03s`, `2h 05m`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def _collection(resource: str) -> str:
    """Also the singular of it."""
    plurals = {"registry": "registries", **{each.removesuffix("s"): each for each in COLLECTIONS}}
    found = plurals.get(resource, resource)
    if found not in COLLECTIONS:
        raise typer.BadParameter(f"there is no {resource}; known are {', '.join(COLLECTIONS)}.")
    return found


def _id_of(client: Client, kind: str, named: str) -> str:
    try:
        return str(UUID(named))
    except ValueError:
        pass
    if kind == "catalog":
        return named
    for each in _FOUND:
        if each == kind:
            return client.id_of(each, named)
    if kind not in _NAMED:
        refuse(f"{kind.capitalize()} have no names here.", "Give the whole ID.")
    return str(client.call("GET", f"/{kind}", named)["uuid"])
