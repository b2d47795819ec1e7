"""`modelyard login`, `logout`, `whoami` and `token`: who is calling."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from cli.client import Client, given
from cli.console import (
    AsJson,
    age,
    as_document,
    echo,
    err,
    field,
    for_each,
    json_or_table,
    out,
    refuse,
)
from cli.content import secret
from cli.credentials import Login, Logins, checked_token, checked_url, find_server
from cli.server import TOKEN, Server

app = typer.Typer(no_args_is_help=True, help="Tokens for people and programs.")

Address = Annotated[str | None, typer.Argument(help="Default: the server of other commands.")]
Tokens = Annotated[list[str], typer.Argument(help="Their IDs.")]
COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("KIND", field("kind")),
    ("ROLE", field("role")),
    ("EXPIRES", field("expires_at")),
    ("AGE", age("created_at")),
]


def login(
    url: Address = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="NAME or NAME@ORG.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Keep a token or API key that is read instead.")
    ] = False,
) -> None:
    """Log in, and stay so: for the eight hours of a session, or as long as a token is good.

    What the server gives is kept for its address in ~/.config/modelyard/logins.json, for nobody
    else to read. MODELYARD_TOKEN counts more. The newest login says which server is meant when
    neither MODELYARD_URL nor a running stack does.

    For instance: modelyard login https://yard.example -u ada
    """
    server = Server(find_server().url if url is None else checked_url(url).rstrip("/"))
    if token_stdin:
        kept = Login(checked_token(secret("token", is_piped=True)))
        caller = Client(server=Server(server.url, kept.token)).call("GET", "/me")
        who = f"as {caller['name']}@{caller['org']}"
    else:
        name = user or str(typer.prompt("User", err=True))
        asked = {"username": name, "password": secret("password", is_piped=password_stdin)}
        kept = Login.of(Client(server=server).call("POST", "/login", json=asked))
        who = f"as {kept.user}"
    Logins().keep(server.url, kept)
    echo(err, f"Logged in to {server.shown} {who}.")
    if TOKEN in os.environ:
        echo(err, f"{TOKEN} is set and counts more: unset it to use the login.")


def logout(url: Address = None) -> None:
    """End a login: its tokens are good no more, and forgotten. A token that was given stays good.

    For instance: modelyard logout https://yard.example
    """
    address = find_server().url if url is None else checked_url(url).rstrip("/")
    server = Server(address)
    kept = Logins().read().get(address)
    if kept is None:
        refuse(f"There is no login at {server.shown}.", "See: modelyard login --help")
    if kept.refresh:
        Client(server=server).call("POST", "/logout", json={"token": kept.refresh})
    Logins().keep(address, None)
    echo(err, f"Logged out of {server.shown}.")


def whoami(as_json: AsJson = False) -> None:
    """As whom commands speak, to which server, and what they may do there.

    For instance: modelyard whoami --json
    """
    client = Client()
    caller = client.call("GET", "/me")
    if as_json:
        as_document(caller)
    else:
        roles = ", ".join(caller["roles"])
        echo(out, f"{caller['name']}@{caller['org']} ({roles}) at {client.shown}")


@app.command()
def create(
    name: str,
    role: Annotated[str, typer.Option(help="admin, member, viewer or node")] = "member",
    kind: Annotated[str, typer.Option(help="jwt or api-key")] = "api-key",
    ttl_hours: Annotated[
        int | None, typer.Option(min=1, max=876_000, help="Default: never expires.")
    ] = None,
) -> None:
    """Make a token. It is shown once, on standard output, and cannot be read again.

    For instance: modelyard token create ci --role member --ttl-hours 720
    """
    ttl_s = None if ttl_hours is None else ttl_hours * 3600
    asked = given(name=name, role=role, kind=kind, ttl_s=ttl_s)
    made = Client().call("POST", "/tokens", json=asked)
    echo(err, f"token {made['uuid']} ({role}); keep it, it is not shown again:")
    print(made["token"])


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Tokens that were handed out, without their secrets.

    For instance: modelyard token list
    """
    json_or_table(Client().pages("/tokens", limit=1000), COLUMNS, as_json=as_json)


@app.command()
def show(token: Annotated[str, typer.Argument(help="Its ID.")]) -> None:
    """One token, without its secret.

    For instance: modelyard token show 3d8e1f0a-…
    """
    as_document(Client().call("GET", "/tokens", token))


@app.command()
def revoke(tokens: Tokens) -> None:
    """Make tokens useless within seconds.

    For instance: modelyard token revoke 3d8e1f0a-…
    """
    client = Client()

    def end(token: str) -> str:
        client.call("DELETE", "/tokens", token)
        return "revoked"

    for_each(tokens, end)
