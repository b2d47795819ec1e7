"""`modelyard catalog`: Docker images with what they require, and the tables that they refer to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.client import Client, given
from cli.console import (
    AsJson,
    AsJsonOrTable,
    Column,
    Limit,
    OnlyJson,
    as_document,
    field,
    for_each,
    json_or_row,
    json_or_table,
)
from cli.content import json_value

app = typer.Typer(no_args_is_help=True, help="Docker images, and what they require of a node.")

Key = Annotated[str, typer.Argument(metavar="PK", help="Its key in the catalogue.")]
Table = Annotated[
    str,
    typer.Argument(
        help="cuda, frameworks, hardware, domains, licences, job-contracts or job-types."
    ),
]
Fields = Annotated[str, typer.Argument(metavar="FIELDS", help="JSON, @FILE, or - for stdin.")]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="JSON", help="A filter specification, @FILE, or -."),
]
COLUMNS = [
    ("PK", field("pk")),
    ("NAME", field("name")),
    ("VERSION", field("version")),
    ("CUDA", field("cuda_version.version")),
    ("HARDWARE", field("min_hardware_generation.generation")),
    ("CPU", field("cpu")),
    ("TASKS", lambda item: ", ".join(item.get("tasks") or [])),
    ("URL", field("url")),
]
NODES = [
    ("NAME", field("name")),
    ("ELIGIBLE", field("eligible")),
    ("REASONS", lambda item: "; ".join(each["detail"] for each in item.get("reasons") or [])),
]


@app.command("list")
def list_(filter_: Filter = None, limit: Limit = 100, as_json: AsJsonOrTable = False) -> None:
    """Images of the catalogue, all or those that match (docs/docker-catalog.md).

    For instance: modelyard catalog list
    """
    found = _found("docker", filter_, limit)
    json_or_table(found, COLUMNS, as_json=as_json, called="PK")


@app.command()
def show(pk: Key, as_json: AsJson = False) -> None:
    """One image with the outcome of its validation.

    For instance: modelyard catalog show 1
    """
    json_or_row(Client().call("GET", "/catalog", pk), COLUMNS, called="PK")


@app.command()
def add(fields: Fields) -> None:
    """Enter an image. A worker validates it afterwards.

    For instance: modelyard catalog add @image.json
    """
    made = _v1().call("POST", "/docker/create", json=json_value(fields, "The image"))
    print(made["pk"])


@app.command()
def update(pk: Key, fields: Fields) -> None:
    """Change the fields of an image that are given.

    For instance: modelyard catalog update 1 '{"cuda_version": "12.1"}'
    """
    change = json_value(fields, "The change")
    as_document(_v1().call("PATCH", "/docker", pk, json=change))


@app.command()
def delete(images: Annotated[list[str], typer.Argument(metavar="PK...")]) -> None:
    """Remove images for good that nothing uses.

    For instance: modelyard catalog delete 1
    """

    def forget(pk: str) -> str:
        _v1().call("DELETE", "/docker", pk)
        return "deleted"

    for_each(images, forget)


@app.command()
def reveal(pk: Key) -> None:
    """One image with the password of its registry, for those who may see it.

    For instance: modelyard catalog reveal 1
    """
    as_document(_v1().call("GET", "/docker", pk))


@app.command()
def nodes(pk: Key, as_json: OnlyJson = False) -> None:
    """Which nodes can run an image, and for each other one why not.

    For instance: modelyard catalog nodes 1
    """
    show_nodes(Client().call("GET", "/catalog", pk, "nodes"), as_json=as_json)


def show_nodes(found: dict[str, Any], *, as_json: bool) -> None:
    """An answer about which nodes can run something."""
    if as_json:
        as_document(found)
    else:
        json_or_table(found.get("nodes", []), NODES, as_json=False)


@app.command()
def rows(
    table: Table, filter_: Filter = None, limit: Limit = 1000, as_json: AsJsonOrTable = False
) -> None:
    """Rows of a table that images refer to.

    For instance: modelyard catalog rows cuda
    """
    found = _found(table, filter_, limit)
    json_or_table(found, _row_columns(found), as_json=as_json, called="PK")


@app.command("show-row")
def show_row(table: Table, pk: Key, as_json: AsJson = False) -> None:
    """One row of a table.

    For instance: modelyard catalog show-row cuda 1
    """
    found = _v1().call("GET", "", table, pk)
    json_or_row(found, _row_columns([found]), called="PK")


@app.command("add-row")
def add_row(table: Table, fields: Fields) -> None:
    """Enter a row into a table.

    For instance: modelyard catalog add-row frameworks '{"name": "pytorch", "version": "2.4"}'
    """
    made = _v1().call("POST", "", table, "create", json=json_value(fields, "The row"))
    print(made["pk"])


@app.command("update-row")
def update_row(table: Table, pk: Key, fields: Fields) -> None:
    """Change the fields of a row that are given.

    For instance: modelyard catalog update-row frameworks 17 '{"version": "2.5"}'
    """
    change = json_value(fields, "The change")
    as_document(_v1().call("PATCH", "", table, pk, json=change))


@app.command("delete-row")
def delete_row(table: Table, pk: Key) -> None:
    """Remove a row that no image uses.

    For instance: modelyard catalog delete-row frameworks 17
    """
    _v1().call("DELETE", "", table, pk)


def _row_columns(rows: list[dict[str, Any]]) -> list[Column]:
    return [(name.upper(), field(name)) for name in (rows[0] if rows else {"pk": 0})]


def _found(table: str, filter_: str | None, limit: int) -> list[dict[str, Any]]:
    wanted = {} if filter_ is None else json_value(filter_, "The filter")
    found: list[dict[str, Any]] = _v1().items(
        "", table, "list", method="POST", json=wanted, params=given(limit=limit)
    )
    return found


def _v1() -> Client:
    return Client("/v1")
