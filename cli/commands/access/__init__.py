"""`modelyard login`, `logout`, `whoami` and `token`: who is calling."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.client import Client, given
from cli.console import (
    AsJson,
    OnlyJson,
    age,
    as_document,
    echo,
    err,
    field,
    for_each,
    json_or_row,
    json_or_table,
    out,
    refuse,
)
from cli.content import secret
from cli.contexts import Context, Contexts, Login
from cli.credentials import checked_token, checked_url, find_choice, find_server
from cli.server import Server

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
    name: Annotated[
        str | None, typer.Option("--name", help="Of the context; default: the host.")
    ] = None,
) -> None:
    """Log in, and stay so: for the eight hours of a session, or as long as a token is good.

    What the server gives is kept as a context in ~/.config/modelyard/contexts.json, for nobody else
    to read, and used from then on; MODELYARD_URL and a stack of this folder count more.

    For instance: modelyard login https://yard.example -u ada
    """
    server = Server(find_server().url if url is None else checked_url(url).rstrip("/"))
    if token_stdin:
        kept = Login(checked_token(secret("token", is_piped=True)))
        caller = Client(server=Server(server.url, kept.token)).call("GET", "/me")
        kept = replace(kept, user=f"{caller['name']}@{caller['org']}")
    else:
        who = user or str(typer.prompt("User", err=True))
        asked = {"username": who, "password": secret("password", is_piped=password_stdin)}
        kept = Login.of(Client(server=server).call("POST", "/login", json=asked))
    context = Context(name or _name(server.url), server.url, kept)
    Contexts().keep(context)
    echo(err, f"Logged in to {server.shown} as {kept.user}, context {context.name}.")
    if (choice := find_choice()).context != context.name:
        echo(err, f"{choice.origin} counts more and says {choice.server.shown}.")


def _name(url: str) -> str:
    """That of the context of this address, or its host."""
    known = Contexts().read().at(url)
    return known.name if known else urlsplit(url).netloc.rpartition("@")[2]


def logout(
    server: Annotated[
        str | None, typer.Argument(help="A context or its address; default: the one in use.")
    ] = None,
) -> None:
    """End a login: its tokens are good no more, and its context is forgotten. A token that was
    given stays good.

    For instance: modelyard logout https://yard.example
    """
    context = _context(server)
    if context.login.refresh:
        asked = {"token": context.login.refresh}
        Client(server=Server(context.url)).call("POST", "/logout", json=asked)
    Contexts().forget(context.name)
    echo(err, f"Logged out of {Server(context.url).shown}.")


def _context(server: str | None) -> Context:
    """The context that is meant. Exits when there is none."""
    kept = Contexts().read()
    if server in kept.contexts:
        return kept.get(server)
    address = find_server().url if server is None else checked_url(server).rstrip("/")
    chosen = find_choice().context if server is None else ""
    found = kept.get(chosen) if chosen else kept.at(address)
    if found is None:
        refuse(f"There is no login at {Server(address).shown}.", "See: modelyard login --help")
    return found


def whoami(as_json: OnlyJson = False) -> None:
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
    found = Client().pages("/tokens", limit=1000)
    json_or_table(found, COLUMNS, as_json=as_json, called="ID")


@app.command()
def show(token: Annotated[str, typer.Argument(help="Its ID.")], as_json: AsJson = False) -> None:
    """One token, without its secret.

    For instance: modelyard token show 3d8e1f0a-…
    """
    json_or_row(Client().call("GET", "/tokens", token), COLUMNS, called="ID")


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
