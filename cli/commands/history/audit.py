"""`modelyard audit`: who did what, and from where."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.client import Client, given
from cli.console import AsJson, Limit, age, field, json_or_table

COLUMNS = [
    ("TIME", field("time")),
    ("AGE", age("time")),
    ("ACTOR", field("actor")),
    ("FROM", field("origin")),
    ("ACTION", field("action")),
    ("NAME", field("name")),
    ("TARGET", field("target")),
    ("REQUEST", field("request")),
]


def audit(
    actor: Annotated[str | None, typer.Option(help="Only what he did, like user:3f….")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, like image.deleted.")] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this ID.")] = None,
    origin: Annotated[str | None, typer.Option(help="Only what came from this address.")] = None,
    request: Annotated[str | None, typer.Option(help="Only what this request did.")] = None,
    since: Annotated[str | None, typer.Option(help="Like 2026-05-01T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Earlier than that.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Who did what in the organisation, and from where, newest first. For administrators.

    For instance: modelyard audit --action image.deleted --since 2026-05-01T00:00:00Z
    """
    wanted = given(
        actor=actor,
        action=action,
        target=target,
        origin=origin,
        request_id=request,
        since=since,
        until=until,
    )
    json_or_table(Client().pages("/audit", limit=limit, **wanted), COLUMNS, as_json=as_json)
