"""`modelyard orgs` and `modelyard users`: for administrators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import content
from cli.client import Client, given
from cli.commands.run import size_in_bytes
from cli.console import (
    AsJson,
    Item,
    Limit,
    age,
    echo,
    err,
    field,
    for_each,
    json_or_row,
    json_or_table,
    refuse,
    size,
)

orgs = typer.Typer(no_args_is_help=True, help="Organisations and what they may have at most.")
users = typer.Typer(no_args_is_help=True, help="Who may log in, and as what.")

UNLIMITED = "unlimited"
Org = Annotated[str, typer.Argument(help="Its slug or its ID.")]
Name = Annotated[str | None, typer.Option(help="What people read; default: the slug.")]
Gpus = Annotated[str | None, typer.Option(help=f"Most GPUs at once, or {UNLIMITED}.")]
Containers = Annotated[str | None, typer.Option(help=f"Most containers, or {UNLIMITED}.")]
Archives = Annotated[
    str | None, typer.Option(help=f"Most bytes of archives, for instance 500g, or {UNLIMITED}.")
]
ORG_COLUMNS = [
    ("ID", field("uuid")),
    ("SLUG", field("slug")),
    ("NAME", field("name")),
    ("GPUS", field("quotas.gpus")),
    ("CONTAINERS", field("quotas.containers")),
    ("ARCHIVES", size("quotas.archive_bytes")),
    ("AGE", age("created_at")),
]


@orgs.command("create")
def create_org(
    slug: str,
    name: Name = None,
    gpus: Gpus = None,
    containers: Containers = None,
    archives: Archives = None,
) -> None:
    """Make an organisation. Its slug names it in tokens, subjects and logins for ever.

    For instance: modelyard orgs create research --gpus 8 --archives 500g
    """
    quotas = given(**_quotas(gpus, containers, archives))
    asked = given(slug=slug, name=name, quotas=quotas or None)
    made = Client().call("POST", "/organisations", json=asked)
    echo(err, f"{made['slug']} is made; its first user: modelyard users create NAME --org {slug}")
    print(made["uuid"])


@orgs.command("list")
def list_orgs(limit: Limit = 50, as_json: AsJson = False) -> None:
    """All organisations, or your own.

    For instance: modelyard orgs list
    """
    found = Client().pages("/organisations", limit=limit)
    json_or_table(found, ORG_COLUMNS, as_json=as_json, called="SLUG")


@orgs.command("show")
def show_org(organisation: Org, as_json: AsJson = False) -> None:
    """One organisation with its quotas.

    For instance: modelyard orgs show research
    """
    json_or_row(Client().call("GET", "/organisations", organisation), ORG_COLUMNS, called="SLUG")


@orgs.command("edit")
def edit_org(
    organisation: Org,
    name: Name = None,
    gpus: Gpus = None,
    containers: Containers = None,
    archives: Archives = None,
) -> None:
    """Change its name or its quotas; what was accepted before goes on.

    For instance: modelyard orgs edit research --gpus 16 --containers unlimited
    """
    client = Client()
    known = client.answer("GET", "/organisations", organisation)
    quotas = _quotas(gpus, containers, archives)
    asked = given(
        name=name, quotas={**client.decode(known)["quotas"], **quotas} if quotas else None
    )
    unchanged = {"If-Match": client.header(known, "ETag")}
    client.call("PATCH", "/organisations", organisation, json=asked, headers=unchanged)
    echo(err, "changed")


@orgs.command("delete")
def delete_orgs(
    organisations: Annotated[list[str], typer.Argument(help="Their slugs or IDs.")],
) -> None:
    """Delete organisations that hold nothing any more, with their users and tokens.

    For instance: modelyard orgs delete research
    """
    client = Client()

    def delete(organisation: str) -> str:
        client.call("DELETE", "/organisations", organisation)
        return "deleted"

    for_each(organisations, delete)


def _quotas(
    gpus: str | None, containers: str | None, archives: str | None
) -> dict[str, int | None]:
    """Those that were given; None lifts one."""
    asked = given(gpus=gpus, containers=containers, archive_bytes=archives)
    return {name: None if text == UNLIMITED else _most(name, text) for name, text in asked.items()}


def _most(name: str, text: str) -> int:
    if name == "archive_bytes":
        return size_in_bytes(text)
    if not text.isdecimal():
        refuse(f"{text!r} is no number.", f"Give one, or {UNLIMITED}.")
    return int(text)


OfOrg = Annotated[
    str | None, typer.Option("--org", help="Another organisation, for platform administrators.")
]
User = Annotated[str, typer.Argument(help="The name or the ID.")]
Users = Annotated[list[str], typer.Argument(metavar="USERS...", help="Names or IDs.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
USER_COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("ROLE", field("role")),
    ("ACTIVE", lambda item: _activity(item)),
    ("AGE", age("created_at")),
]


@users.command("create")
def create_user(
    name: str,
    role: Annotated[str, typer.Option(help="admin, member or viewer")] = "member",
    org: OfOrg = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Make somebody who may log in. The password is asked for, never an argument.

    For instance: modelyard users create ada --role admin --org research
    """
    password = content.secret("password", is_piped=password_stdin)
    asked = {"name": name, "role": role, "password": password}
    made = Client().call("POST", "/users", json=asked, params=given(org=org))
    echo(err, f"{made['name']}@{made['org']} may log in as {made['role']}")
    print(made["uuid"])


@users.command("list")
def list_users(org: OfOrg = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Users of the organisation.

    For instance: modelyard users list --org research
    """
    found = Client().pages("/users", limit=limit, org=org)
    json_or_table(found, USER_COLUMNS, as_json=as_json)


@users.command("show")
def show_user(user: User, org: OfOrg = None, as_json: AsJson = False) -> None:
    """One user.

    For instance: modelyard users show ada
    """
    json_or_row(Client().call("GET", "/users", user, params=given(org=org)), USER_COLUMNS)


@users.command("disable")
def disable(named: Users, org: OfOrg = None) -> None:
    """Keep users out, at once and with everything that they hold.

    For instance: modelyard users disable ada bob
    """
    _edit(named, org, "disabled", active=False)


@users.command("enable")
def enable(named: Users, org: OfOrg = None) -> None:
    """Let them in again; tokens and keys that they held are good again, too.

    For instance: modelyard users enable ada
    """
    _edit(named, org, "enabled", active=True)


@users.command("passwd")
def passwd(user: User, org: OfOrg = None, password_stdin: PasswordStdin = False) -> None:
    """Give another password. Sessions, tokens and keys of before are good no more.

    For instance: modelyard users passwd ada
    """
    password = content.secret("password", is_piped=password_stdin)
    _edit([user], org, "has another password", password=password)


@users.command("roles")
def roles(
    user: User,
    role: Annotated[str, typer.Argument(help="admin, member or viewer")],
    org: OfOrg = None,
) -> None:
    """Give another role. Sessions, tokens and keys of before are good no more.

    For instance: modelyard users roles ada viewer
    """
    _edit([user], org, f"is {role}", role=role)


def _edit(named: list[str], org: str | None, done: str, **change: Any) -> None:
    client = Client()

    def edit(user: str) -> str:
        client.call("PATCH", "/users", user, json=change, params=given(org=org))
        return done

    for_each(named, edit)


def _activity(item: Item) -> str:
    return "yes" if item.get("active") else "no"
