"""`modelyard volumes`: what containers keep, also those that are gone."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from cli.client import Client
from cli.console import ID, AsJson, Limit, age, field, for_each, json_or_table

app = typer.Typer(no_args_is_help=True, help="What containers keep on their nodes.")

COLUMNS = [
    (ID, field("uuid")),
    ("CONTAINER", field("name")),
    ("PATH", field("path")),
    ("NODE", field("node_name")),
    ("STATUS", field("status")),
    ("AGE", age("created_at")),
]


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """Newest first, with the name of the containers that get them.

    For instance: modelyard volumes list --limit 10
    """
    json_or_table(Client().pages("/volumes", limit=limit), COLUMNS, as_json=as_json)


@app.command()
def delete(volumes: Annotated[list[str], typer.Argument(help="Their whole IDs.")]) -> None:
    """Remove them for good; their containers must be gone.

    For instance: modelyard volumes delete 0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0
    """
    for_each(volumes, partial(_delete, Client()))


def _delete(client: Client, volume: str) -> str:
    return str(client.call("DELETE", "/volumes", volume)["status"]).lower()
