"""`modelyard images build` and `modelyard builds`: images made of a Dockerfile."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from cli.client import Client, given
from cli.commands.run import pairs
from cli.console import (
    FAILED,
    ID,
    AsJson,
    Limit,
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

app = typer.Typer(no_args_is_help=True, help="Images on their way from a Dockerfile.")

COLUMNS = [
    (ID, field("uuid")),
    ("IMAGE", field("name")),
    ("FROM", field("source")),
    ("NODE", field("node_name")),
    ("STATUS", field("status")),
    ("AGE", age("created_at")),
    ("REASON", field("reason")),
]
ACTIVE: Final = frozenset({"QUEUED", "BUILDING", "PUSHING"})
Whole = Annotated[str, typer.Argument(help="Its whole ID.")]


def build(
    path: Annotated[
        str,
        typer.Argument(help="A folder here, or https://HOST/REPOSITORY[#REF] of a Git repository."),
    ],
    name: Annotated[str, typer.Option("--name", "-t", help="What the image is called.")],
    file: Annotated[
        str, typer.Option("--file", "-f", help="The Dockerfile, seen from the folder.")
    ] = "Dockerfile",
    on_node: Annotated[
        bool, typer.Option(help="PATH lies on the node, below its MODELYARD_BUILD_ROOTS.")
    ] = False,
    build_arg: Annotated[
        list[str] | None, typer.Option("--build-arg", help="KEY=VALUE; no place for secrets.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The stage that is wanted.")] = None,
    secret: Annotated[
        str | None, typer.Option(help="Registry secret for the base images, by name.")
    ] = None,
    node: Annotated[str | None, typer.Option(help="The node that builds.")] = None,
    wait: Annotated[bool, typer.Option(help="Show its output, and wait until it is over.")] = True,
    as_json: AsJson = False,
) -> None:
    """Build an image of a Dockerfile on a node, and list it. `.dockerignore` is heeded.

    For instance: modelyard images build . --name team/model:1
    """
    client = Client()
    common = given(name=name, dockerfile=file, target=target, secret=secret, node=node)
    if on_node or path.startswith("https://"):
        url, _, ref = path.partition("#")
        place = given(git_url=url, git_ref=ref or None) if not on_node else {"context_path": path}
        asked = {**common, **place, "build_args": pairs(build_arg)}
        record = client.call("POST", "/builds", json=asked)
    else:
        record = _send(client, Path(path), file, {**common, "arg": build_arg or []})
    if wait:
        _show(client, record["uuid"])
        record = client.patient_get(f"/builds/{record['uuid']}")
    _print(record, as_json=as_json)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Newest first.

    For instance: modelyard builds list --status FAILED
    """
    builds = Client().pages("/builds", limit=limit, **given(status=status))
    json_or_table(builds, COLUMNS, as_json=as_json, called=ID)


@app.command()
def show(build: Whole, as_json: AsJson = False) -> None:
    """Everything that is known about one build.

    For instance: modelyard builds show 0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0
    """
    json_or_row(Client().call("GET", "/builds", build), COLUMNS, called=ID)


@app.command()
def output(build: Whole) -> None:
    """What it writes, from its beginning until it is over.

    For instance: modelyard builds output 0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0
    """
    _show(Client(), build)


@app.command()
def cancel(builds: Annotated[list[str], typer.Argument(help="Their whole IDs.")]) -> None:
    """End builds that are not built yet, and remove what they left.

    For instance: modelyard builds cancel 0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0
    """
    for_each(builds, partial(_cancel, Client()))


def _cancel(client: Client, build: str) -> str:
    return str(client.call("DELETE", "/builds", build)["status"]).lower()


def _send(client: Client, folder: Path, file: str, query: dict[str, Any]) -> dict[str, Any]:
    if not folder.is_dir():
        refuse(f"{folder} is no folder: give the one that holds the Dockerfile.")
    if not (folder / file).is_file():
        refuse(f"There is no {folder / file}: name the Dockerfile with --file.")
    kind = {"Content-Type": "application/x-tar"}
    with _packed(folder, file) as archive:
        answer = client.answer("POST", "/builds", params=query, content=archive, headers=kind)
    return client.decode(answer)


@contextmanager
def _packed(folder: Path, file: str) -> Iterator[IO[bytes]]:
    """As a TAR, without what `.dockerignore` names."""
    # It loads what only this command needs.
    from pipeline.adapters.engine.building import write_context

    with tempfile.TemporaryFile() as archive:
        try:
            write_context(folder, archive, dockerfile=file)
        except OSError as error:
            refuse(f"{folder} cannot be packed: {error.strerror or error}.")
        yield archive


def _show(client: Client, build: str) -> None:
    for text in client.read_output(build):
        sys.stdout.write(text)
        sys.stdout.flush()


def _print(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        as_document(record)
    elif record["status"] in ACTIVE:
        echo(out, record["uuid"])
    if record["status"] == "FAILED":
        refuse("The build failed:", str(record["reason"]), code=FAILED)
    if record["status"] == "DONE":
        echo(err, f"{record['name']} is listed")
