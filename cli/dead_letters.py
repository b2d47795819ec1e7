"""`modelyard dead-letters`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.client import Client, err
from cli.show import age, as_document, field, json_or_table

app = typer.Typer(no_args_is_help=True, help="Messages that could not be handled.")

COLUMNS = [
    ("ID", field("id")),
    ("SUBJECT", field("subject")),
    ("CODE", field("code")),
    ("ATTEMPTS", field("attempts")),
    ("AGE", age("time")),
    ("REASON", field("reason")),
]


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Newest first, with the reason."""
    json_or_table(Client().pages("/dead-letters", limit=200), COLUMNS, as_json=as_json)


@app.command()
def show(letter: str) -> None:
    """One message with its payload and history."""
    as_document(Client().call("GET", "/dead-letters", letter))


@app.command()
def requeue(letter: str) -> None:
    """Give it to the workers again."""
    Client().call("POST", "/dead-letters", letter, "requeue")
    err.print("requeued")


@app.command()
def drop(letter: str) -> None:
    """Forget it."""
    Client().call("DELETE", "/dead-letters", letter)
    err.print("dropped")
