"""`modelyard secrets`."""

from __future__ import annotations

import base64
import secrets
from enum import StrEnum
from typing import Annotated

import typer

from cli.client import FAILED, MISSING, Client, err, say
from cli.console import refuse, standard_input
from cli.show import age, field, json_or_table

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
    """Keep credentials. Password or token is asked for, never an argument, and never shown."""
    password = _read() if password_stdin else _ask()
    data = {"username": username, "token" if kind in TOKENS else "password": password}
    if server:
        data["server"] = server
    body = {"name": name, "secret_type": kind.value, "data": data}
    made = Client().call("POST", "/secrets", json=body)
    say(err, f"kept for {made['server']}")
    print(made["uuid"])


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Secrets without their values, and whether their servers took them."""
    json_or_table(Client().call("GET", "/secrets")["items"], COLUMNS, as_json=as_json)


@app.command()
def delete(secret: str) -> None:
    """Forget a secret, by id or name, that nothing uses."""
    client = Client()
    client.call("DELETE", "/secrets", _routable(client, secret))
    err.print("deleted")


@app.command("new-key")
def new_key() -> None:
    """Print a key of its own id for MODELYARD_ENCRYPTION_KEYS. Nothing is changed by that."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    print(f"k{secrets.token_hex(4)}:{key}")


@app.command("rotate-key")
def rotate_key() -> None:
    """Seal everything with the first key of MODELYARD_ENCRYPTION_KEYS, which the server was
    started with. The keys after it can go when nothing was unreadable. Can be repeated."""
    done = Client().call("POST", "/secrets/rotate-key")
    err.print(f"{done['resealed']} sealed anew")
    if done["unreadable"]:
        err.print("[red]No key opens these, enter them anew:[/]")
        print("\n".join(done["unreadable"]))
        raise typer.Exit(FAILED)


def _ask() -> str:
    standard_input()
    return str(typer.prompt("Password", hide_input=True))


def _read() -> str:
    """Everything but one end of a line, which belongs to how it was written."""
    try:
        text = standard_input().read().decode()
    except UnicodeDecodeError:
        refuse("The password on standard input is no UTF-8 text.")
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def _routable(client: Client, secret: str) -> str:
    """Itself, or the ID of what is called so: a slash ends a name in a path, even a quoted one."""
    if "/" not in secret:
        return secret
    for each in client.call("GET", "/secrets")["items"]:
        if each["name"] == secret:
            return str(each["uuid"])
    say(err, ("Not Found:", "red"), f" There is no secret {secret}.")
    raise typer.Exit(MISSING)
