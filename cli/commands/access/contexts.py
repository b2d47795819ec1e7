"""`modelyard contexts`: the servers that somebody uses, by name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.console import AsJson, Column, echo, err, field, for_each, json_or_row, json_or_table
from cli.contexts import Context, Contexts
from cli.credentials import Choice, Origin, find_choice
from cli.server import shown

app = typer.Typer(no_args_is_help=True, help="The servers that you are logged in to, by name.")

COLUMNS: list[Column] = [
    ("IN USE", lambda item: "*" if item["in_use"] else ""),
    ("NAME", field("name")),
    ("URL", field("url")),
    ("USER", field("user")),
    ("ENDS", field("expires_at")),
]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All of them, and which server commands use now.

    For instance: modelyard contexts list
    """
    choice = find_choice()
    contexts = Contexts().read().contexts.values()
    json_or_table([_view(each, choice) for each in contexts], COLUMNS, as_json=as_json)
    if not choice.context:
        echo(err, _said(choice))


@app.command()
def use(name: str) -> None:
    """Have commands use this server from now on.

    For instance: modelyard contexts use yard.example
    """
    with Contexts().change() as kept:
        kept.get(name)
        kept.current = name
    choice = find_choice()
    echo(err, f"{name} is in use." if choice.context == name else _said(choice))


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Default: the one in use.")] = None,
    as_json: AsJson = False,
) -> None:
    """Which server it is and who is logged in there, without the token.

    For instance: modelyard contexts show yard.example
    """
    choice = find_choice()
    chosen = choice.context if name is None else name
    if chosen:
        json_or_row(_view(Contexts().read().get(chosen), choice), COLUMNS)
    else:
        found = {"name": "", "url": choice.server.shown, "said_by": choice.origin.value}
        json_or_row(found, COLUMNS)


@app.command()
def delete(names: Annotated[list[str], typer.Argument(help="Of contexts.")]) -> None:
    """Forget them. The server is not told: `logout` ends a login, too.

    For instance: modelyard contexts delete yard.example
    """
    contexts = Contexts()

    def forget(name: str) -> str:
        contexts.forget(name)
        return "deleted"

    for_each(names, forget)


def _view(context: Context, choice: Choice) -> dict[str, Any]:
    return {
        "name": context.name,
        "url": shown(context.url),
        "user": context.login.user,
        "expires_at": context.login.expires_at or None,
        "in_use": context.name == choice.context,
    }


def _said(choice: Choice) -> str:
    if choice.origin is Origin.DEFAULT:
        return f"None is in use: commands go to {choice.server.shown}."
    return f"{choice.origin} counts more: commands go to {choice.server.shown}."
