"""`modelyard registries`: the directory of OCI registries, and what lies in them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.client import Client, given
from cli.console import (
    FAILED,
    AsJson,
    AsJsonOrTable,
    Limit,
    OnlyJson,
    age,
    as_document,
    echo,
    err,
    field,
    for_each,
    json_or_row,
    json_or_table,
)
from cli.content import json_value

app = typer.Typer(no_args_is_help=True, help="The directory of registries, and what lies in them.")

Registry = Annotated[str, typer.Argument(help="Its ID in the directory.")]
COLUMNS = [
    ("ID", field("container_registry_id")),
    ("NAME", field("container_registry_name")),
    ("URL", field("container_registry_public_url")),
    ("PREFIX", field("container_registry_image_prefix")),
    ("HEALTH", lambda item: _health(item.get("container_registry_health"))),
    ("CHECKED", age("container_registry_health.checked_at")),
    ("TAGS", lambda item: ", ".join(item.get("container_registry_tags") or [])),
]
CHECKS = [
    ("AGE", age("checked_at")),
    ("HEALTH", lambda item: _health(item)),
    ("STATUS", field("status_code")),
    ("LATENCY (ms)", field("latency_ms")),
    ("REASON", field("reason")),
]


@app.command("list")
def list_(limit: Limit = 100, as_json: AsJsonOrTable = False) -> None:
    """All that are entered, with what the last check of each found.

    For instance: modelyard registries list
    """
    _show_matching({}, {"limit": limit}, as_json=as_json)


@app.command()
def search(
    filter_: Annotated[str, typer.Argument(metavar="FILTER", help="JSON, @FILE, or - for stdin.")],
    sort: Annotated[str | None, typer.Option(help="A field; - before it for descending.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
    limit: Limit = 100,
    as_json: AsJsonOrTable = False,
) -> None:
    """Those that match a filter in a part of MongoDB's language (docs/container-registry-db.md).

    For instance: modelyard registries search '{"container_registry_tags": "gpu"}'
    """
    query = given(limit=limit, offset=offset, sort=sort)
    _show_matching(json_value(filter_, "The filter"), query, as_json=as_json)


@app.command()
def show(registry: Registry, as_json: AsJson = False) -> None:
    """Everything that is known about one registry.

    For instance: modelyard registries show mine
    """
    json_or_row(_call("GET", "/container_registry", registry), COLUMNS, called="ID")


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="http or https, without credentials.")],
    id: Annotated[str | None, typer.Option(help="Default: a new one.")] = None,
    name: Annotated[str | None, typer.Option(help="For people to read.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Again for another one.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Images in it begin like this.")] = None,
    secret: Annotated[str | None, typer.Option(help="Its credentials: a secret's name.")] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object or @FILE.")] = None,
    config: Annotated[str | None, typer.Option(help="JSON object or @FILE; public.")] = None,
    storage: Annotated[str | None, typer.Option(help="JSON object or @FILE.")] = None,
) -> None:
    """Enter a registry. A worker looks at it soon; `check` does it now.

    For instance: modelyard registries add https://registry.example.com --id mine --secret team
    """
    objects = given(metadata=metadata, config=config, storage_info=storage)
    values = given(id=id, name=name, tags=tag, public_url=url, image_prefix=prefix)
    values |= {each: json_value(text, f"--{each}") for each, text in objects.items()}
    if secret is not None:
        values["secret"] = Client().call("GET", "/secrets", secret)["uuid"]
    entry = {f"container_registry_{each}": value for each, value in values.items()}
    print(_call("POST", "/container_registry", json=entry)["id"])


@app.command()
def update(
    registry: Registry,
    change: Annotated[str, typer.Argument(help="JSON, @FILE, or - for standard input.")],
) -> None:
    """Change an entry: a partial document, or operators such as $set, $unset, $push and $pull.

    For instance: modelyard registries update mine '{"$push": {"container_registry_tags": "gpu"}}'
    """
    _call("PUT", "/container_registry", registry, json=json_value(change, "The change"))
    echo(err, "updated")


@app.command()
def check(registry: Registry, as_json: OnlyJson = False) -> None:
    """Have a worker look at a registry now. The exit code is 1 when it does not answer.

    For instance: modelyard registries check mine
    """
    health = _call("GET", "/check_container_health", registry)
    if as_json:
        as_document(health)
    else:
        json_or_table([health], CHECKS, as_json=False)
    if not health["reachable"]:
        raise typer.Exit(FAILED)


@app.command()
def checks(registry: Registry, as_json: AsJsonOrTable = False) -> None:
    """How a registry has been: the last hundred checks, newest first.

    For instance: modelyard registries checks mine
    """
    found = Client().call("GET", "/registries", registry, "checks")
    json_or_table(found["items"], CHECKS, as_json=as_json)


@app.command()
def delete(registries: Annotated[list[str], typer.Argument(help="Their IDs.")]) -> None:
    """Remove entries; the registries themselves are left alone.

    For instance: modelyard registries delete mine
    """

    def forget(registry: str) -> str:
        _call("DELETE", "/container_registry", registry)
        return "deleted"

    for_each(registries, forget)


@app.command()
def repositories(registry: Registry, limit: Limit = 100) -> None:
    """What lies in a registry, as it says now. Many public ones do not say.

    For instance: modelyard registries repositories mine
    """
    _print_names(f"/registries/{quote(registry, safe='')}/repositories", limit)


@app.command()
def tags(registry: Registry, repository: str, limit: Limit = 100) -> None:
    """Tags of one repository, in the order of the registry.

    For instance: modelyard registries tags mine team/model
    """
    path = f"/registries/{quote(registry, safe='')}/repositories/{quote(repository)}/tags"
    _print_names(path, limit)


def _call(method: str, path: str, *pieces: str, **options: Any) -> Any:
    """What the directory answers, out of its envelope."""
    return Client("").call(method, path, *pieces, **options)["data"]


def _show_matching(wanted: dict[str, Any], query: dict[str, Any], *, as_json: bool) -> None:
    entries = _call("POST", "/container_registries", json=wanted, params=query)
    json_or_table(entries, COLUMNS, as_json=as_json, called="ID")


def _print_names(path: str, limit: int) -> None:
    for name in Client().pages(path, limit=limit):
        print(name)


def _health(health: dict[str, Any] | None) -> str:
    if not health:
        return ""
    if health["reachable"]:
        return "READY" if health["oci"] else "no registry"
    return str(health["error_kind"] or "FAILED")
