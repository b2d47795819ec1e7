"""`modelyard token`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.client import Client, err, say
from cli.show import age, field, json_or_table

app = typer.Typer(no_args_is_help=True, help="Tokens for people and programs.")

COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("KIND", field("kind")),
    ("ROLE", field("role")),
    ("EXPIRES", field("expires_at")),
    ("AGE", age("created_at")),
]


@app.command()
def create(
    name: str,
    role: Annotated[str, typer.Option(help="admin, member, viewer or node")] = "member",
    kind: Annotated[str, typer.Option(help="jwt or api-key")] = "api-key",
    ttl_hours: Annotated[
        int | None, typer.Option(min=1, max=876_000, help="Default: never expires.")
    ] = None,
) -> None:
    """Make a token. It is shown once, on standard output, and cannot be read again."""
    body = {"name": name, "role": role, "kind": kind}
    ttl = {} if ttl_hours is None else {"ttl_s": ttl_hours * 3600}
    made = Client().call("POST", "/tokens", json=body | ttl)
    say(err, f"token {made['uuid']} ({role}); keep it, it is not shown again:")
    print(made["token"])


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Tokens that were handed out, without their secrets."""
    json_or_table(Client().pages("/tokens", limit=1000), COLUMNS, as_json=as_json)


@app.command()
def revoke(token: str) -> None:
    """Make a token useless within seconds."""
    Client().call("DELETE", "/tokens", token)
    err.print("revoked")
