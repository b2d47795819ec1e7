"""`modelyard secrets`."""

from __future__ import annotations

import base64
import secrets
from enum import StrEnum
from typing import Annotated

import typer

from cli import content
from cli.client import Client
from cli.console import (
    FAILED,
    MISSING,
    AsJson,
    age,
    echo,
    err,
    field,
    for_each,
    json_or_row,
    json_or_table,
    refuse,
)

app = typer.Typer(no_args_is_help=True, help="Credentials of registries.")

COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("TYPE", field("secret_type")),
    ("SERVER", field("server")),
    ("USED BY", field("reference_count")),
    ("LOGIN", field("login.code")),
    ("AGE", age("created_at")),
]


class Kind(StrEnum):
    REGISTRY = "registry"
    DOCKER_HUB = "docker_hub"
    DEPOT = "depot"
    NVIDIA = "nvidiadockersecret"


KEY_BYTES = 32
TOKENS = frozenset({Kind.DOCKER_HUB, Kind.DEPOT})


@app.command()
def add(
    name: str,
    username: Annotated[str, typer.Option(help="Whom to log in as.")],
    server: Annotated[str, typer.Option(help="host[:port]; docker_hub and depot know it.")] = "",
    kind: Annotated[Kind, typer.Option("--type")] = Kind.REGISTRY,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read password or token from standard input.")
    ] = False,
) -> None:
    """Keep credentials. Password or token is asked for, never an argument, and never shown.

    For instance: modelyard secrets add team --username robot --server registry.example.com
    """
    password = content.secret("password", is_piped=password_stdin)
    data = {"username": username, "token" if kind in TOKENS else "password": password}
    if server:
        data["server"] = server
    body = {"name": name, "secret_type": kind.value, "data": data}
    made = Client().call("POST", "/secrets", json=body)
    echo(err, f"kept for {made['server']}")
    print(made["uuid"])


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Secrets without their values, and whether their servers took them.

    For instance: modelyard secrets list
    """
    json_or_table(Client().call("GET", "/secrets")["items"], COLUMNS, as_json=as_json)


@app.command()
def show(
    secret: Annotated[str, typer.Argument(help="Its name or its ID.")], as_json: AsJson = False
) -> None:
    """One secret, without its values.

    For instance: modelyard secrets show team
    """
    client = Client()
    json_or_row(client.call("GET", "/secrets", _routable(client, secret)), COLUMNS)


@app.command()
def delete(
    named: Annotated[list[str], typer.Argument(metavar="SECRETS...", help="Names or IDs.")],
) -> None:
    """Forget secrets, by ID or name, that nothing uses.

    For instance: modelyard secrets delete team
    """
    client = Client()

    def forget(secret: str) -> str:
        client.call("DELETE", "/secrets", _routable(client, secret))
        return "deleted"

    for_each(named, forget)


@app.command("new-key")
def new_key() -> None:
    """Print a key of its own id for MODELYARD_ENCRYPTION_KEYS. Nothing is changed by that.

    For instance: modelyard secrets new-key
    """
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    print(f"k{secrets.token_hex(4)}:{key}")


@app.command("rotate-key")
def rotate_key() -> None:
    """Seal everything with the first key of MODELYARD_ENCRYPTION_KEYS, which the server was
    started with: secrets, what signs for webhooks, passwords of the catalogue. The keys after it
    can go when nothing was unreadable; dead letters from before then cannot be sent again. Can be
    repeated.

    For instance: modelyard secrets rotate-key
    """
    done = Client().call("POST", "/secrets/rotate-key")
    err.print(f"{done['resealed']} sealed anew")
    if done["unreadable"]:
        err.print("[red]No key opens these, enter them anew:[/]")
        print("\n".join(done["unreadable"]))
        raise typer.Exit(FAILED)


def _routable(client: Client, secret: str) -> str:
    """Itself, or the ID of what is called so: a slash ends a name in a path, even a quoted one."""
    if "/" not in secret:
        return secret
    listed = client.call("GET", "/secrets")["items"]
    found = [str(each["uuid"]) for each in listed if each["name"] == secret]
    if not found:
        refuse("Not Found:", f"There is no secret {secret}.", code=MISSING)
    return found[0]
