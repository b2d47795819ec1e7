"""Records by what people call them."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import typer

from cli.client import MISSING, USAGE, Client, err, say
from cli.console import refuse

Named = Annotated[str, typer.Argument(help="Its name or its ID.")]
Kind = Literal["images", "containers", "nodes"]


def uuid_of(client: Client, kind: Kind, given: str) -> str:
    """The ID of the record that is meant. Exits when none is, or more than one.

    A name that looks like an ID is taken for one.
    """
    if not given:
        refuse("An empty text names nothing.", "Give a name or an ID.")
    try:
        return str(UUID(given))
    except ValueError:
        called = client.pages(f"/{kind}", limit=10, name=given)
    if len(called) == 1:
        return str(called[0]["uuid"])
    one = kind.removesuffix("s")
    if not called:
        say(err, ("Not Found:", "red"), f" There is no {one} {given}.")
        raise typer.Exit(MISSING)
    ids = ", ".join(each["uuid"] for each in called)
    say(err, ("Not clear:", "red"), f" Several {kind} are called {given}. Give one ID: {ids}.")
    raise typer.Exit(USAGE)
