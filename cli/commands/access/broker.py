"""`modelyard token nats`: what automation without HTTP connects to the broker with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.stack import read_settings
from cli.console import FAILED, OnlyJson, as_document, echo, out, refuse
from pipeline.errors import YardError

if TYPE_CHECKING:
    from pipeline.stack.broker_login import BrokerLogin


def nats(
    org: Annotated[
        str | None, typer.Option(help="An organisation's slug; default: the stack's own.")
    ] = None,
    as_env: Annotated[
        bool, typer.Option("--env", help="Print assignments for a shell to evaluate.")
    ] = False,
    as_json: OnlyJson = False,
) -> None:
    """Show an organisation's user of the broker: its password, and what it may publish and read.

    It comes from the keys of the stack of this folder (MODELYARD_STATE), which its owner alone can
    read: no server tells these passwords.

    For instance: eval "$(modelyard token nats --env)"
    """
    if as_json and as_env:
        raise typer.BadParameter("--json or --env, not both.")
    login = _read(org)
    if as_json:
        as_document(login.model_dump())
    elif as_env:
        for name, value in _variables(login).items():
            print(f"export {name}={shlex.quote(value)}")
    else:
        _show(login)


def _read(org: str | None) -> BrokerLogin:
    from pipeline.stack.broker_login import broker_login
    from pipeline.stack.state import State

    try:
        settings = read_settings()
        return broker_login(State(settings.state), settings.org if org is None else org)
    except YardError as error:
        refuse(error.message, code=FAILED)


def _variables(login: BrokerLogin) -> dict[str, str]:
    """As the `nats` command line calls them, where it has a name for them."""
    return {
        "NATS_URL": login.url,
        "NATS_USER": login.user,
        "NATS_PASSWORD": login.password,
        "NATS_INBOX_PREFIX": login.inbox_prefix,
        "YARD_COMMANDS": login.commands,
        "YARD_EVENTS": login.events,
        "YARD_STREAM": login.stream,
        "YARD_READER": login.reader,
    }


def _show(login: BrokerLogin) -> None:
    for name, value in _variables(login).items():
        echo(out, f"{name:18}{value}")
    for title, subjects in (("may publish", login.publish), ("may subscribe", login.subscribe)):
        echo(out, f"{title}:")
        for subject in subjects:
            echo(out, f"  {subject}")
