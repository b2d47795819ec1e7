"""`modelyard images`: by reference, or as an archive of `docker save`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from cli.client import Client, Named, SeveralNamed, given
from cli.commands.models import model_id
from cli.commands.registries.catalog import show_nodes
from cli.commands.run import Annotation, pairs
from cli.console import (
    FAILED,
    ID,
    INTERRUPTED,
    AsJson,
    AsJsonOrTable,
    Column,
    Limit,
    OnlyJson,
    Wide,
    age,
    as_document,
    echo,
    err,
    field,
    for_each,
    human_bytes,
    json_or_row,
    json_or_table,
    labels,
    out,
    refuse,
    short_id,
    size,
)
from cli.content import json_value
from cli.progress import UploadProgress, follow, upload_progress
from cli.upload_plan import READ_BYTES
from cli.uploads import Changed, Pushed, cache, forget_old_notes, push_archive
from pipeline.uploads import tus

app = typer.Typer(no_args_is_help=True, help="Bring images and see what became of them.")

STDIN = "-"
NAME_MAX = 255
SETTLED = {"READY", "FAILED", "DELETED"}
DIGEST = 12
"""Hex digits of a digest that are enough to tell images apart."""
COLUMNS: list[Column] = [
    (ID, short_id),
    ("NAME", lambda item: shown_name(item)),
    ("DIGEST", lambda item: _short_digest(item)),
    ("STATUS", field("status")),
    ("SIZE", size("size_bytes")),
    ("PLATFORM", lambda item: _platform(item)),
    ("REFERENCE", Wide(field("reference"))),
    ("LABELS", Wide(labels("labels"))),
    ("CREATED", Wide(field("created_at"))),
    ("AGE", age("created_at")),
    ("REASON", field("reason")),
]


@app.command()
def add(
    reference: str,
    name: Annotated[
        str | None,
        typer.Option(
            help="A name that no other image has; default: the reference, which several may share."
        ),
    ] = None,
    platform: Annotated[str | None, typer.Option(help="For instance linux/arm64.")] = None,
    secret: Annotated[str | None, typer.Option(help="Registry secret, by name.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE")] = None,
    needs: Annotated[
        str | None, typer.Option(help="JSON instead of what the image says that it needs.")
    ] = None,
    defaults: Annotated[
        str | None,
        typer.Option(
            help="JSON: gpus, env, ports and health of containers whose owner says nothing."
        ),
    ] = None,
    annotation: Annotation = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is proved or refused.")] = True,
    as_json: AsJsonOrTable = False,
) -> None:
    """Bring an image by reference; the registry is asked whether it is there and complete.

    For instance: modelyard images add registry.example.com/team/model:1 --name model
    """
    client = Client()
    asked = given(
        reference=reference,
        name=name,
        platform=platform,
        secret=secret,
        labels=pairs(label) or None,
        needs=None if needs is None else json_value(needs, "--needs"),
        defaults=None if defaults is None else json_value(defaults, "--defaults"),
        annotations=pairs(annotation) or None,
    )
    image = client.call("POST", "/images", json=asked)
    if wait:
        image = follow(client, "images", image, until=SETTLED, look=_tell_reasons())
    if as_json:
        as_document(image)
    else:
        json_or_table([image], COLUMNS, as_json=False)
        for finding in image["findings"]:
            echo(out, f"  {finding['severity']}: {finding['message']} ({finding['code']})")
    if image["status"] == "FAILED":
        raise typer.Exit(FAILED)


@app.command()
def push(
    archive: Annotated[str, typer.Argument(help="A TAR of docker save, or - for standard input.")],
    name: Annotated[str | None, typer.Option(help="Default: like its RepoTag.")] = None,
    repo_tag: Annotated[str | None, typer.Option(help="Which of several images.")] = None,
    platform: Annotated[str | None, typer.Option(help="For instance linux/arm64.")] = None,
    model: Annotated[str | None, typer.Option(help="By name or ID; goes with --version.")] = None,
    version: Annotated[str | None, typer.Option(help="Deliver it to this version.")] = None,
    as_json: OnlyJson = False,
) -> None:
    """Send an image archive. Layers that are there are not sent; a cut is gone on from.

    For instance: docker save team/model:1 | modelyard images push -
    """
    if (model is None) != (version is None):
        raise typer.BadParameter("--model and --version go together.")
    asked = {"name": name, "repo_tag": repo_tag, "platform": platform}
    asked |= {"model": model, "version": version}
    _require_sendable(**asked)
    if model is not None:
        asked["model"] = model_id(Client("/api"), model)
    metadata = tus.metadata(asked | {"filename": _filename(archive)})
    client = Client()
    forget_old_notes(time.time())
    with _errors(archive), upload_progress() as progress, _file(archive, progress) as path:
        pushed = push_archive(client, path, metadata, progress)
    _print(pushed, as_json=as_json)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Those, too, whose name a newer image has.")
    ] = False,
    limit: Limit = 50,
    as_json: AsJsonOrTable = False,
) -> None:
    """Newest first. Of images that share a name only the newest, which has it now.

    For instance: modelyard images list --all
    """
    query = given(status=status, name=name, superseded=all_ or None)
    images = Client().pages("/images", limit=limit, **query)
    json_or_table(images, COLUMNS, as_json=as_json)


@app.command()
def show(image: Named, as_json: AsJson = False) -> None:
    """Everything that is known about one image.

    For instance: modelyard images show model
    """
    client = Client()
    json_or_row(client.call("GET", client.path_to("images", image)), COLUMNS)


@app.command()
def nodes(image: Named, as_json: OnlyJson = False) -> None:
    """Which nodes could run an image now, and for each other one why not.

    For instance: modelyard images nodes model
    """
    client = Client()
    found = client.call("GET", f"{client.path_to('images', image)}/nodes")
    show_nodes(found, as_json=as_json)


@app.command()
def delete(images: SeveralNamed) -> None:
    """Forget images that no container uses.

    For instance: modelyard images delete model
    """
    client = Client()

    def forget(image: str) -> str:
        client.call("DELETE", client.path_to("images", image))
        return "deleted"

    for_each(images, forget)


def _tell_reasons() -> Callable[[dict[str, Any]], None]:
    """Says of an image that is waited for why it takes long, as soon as that is known."""
    told: set[str | None] = {None, ""}

    def look(image: dict[str, Any]) -> None:
        if image["status"] not in SETTLED and image["reason"] not in told:
            told.add(image["reason"])
            echo(err, str(image["reason"]))

    return look


def shown_name(item: dict[str, Any]) -> str:
    """What it can be called by: a name that a newer image has goes with the digest."""
    if item.get("superseded_by") and item["digest"]:
        return f"{item['name']}@sha256:{_short_digest(item)}"
    return str(item["name"])


def _short_digest(item: dict[str, Any]) -> str:
    return str(item.get("digest") or "").partition(":")[2][:DIGEST]


def _platform(item: dict[str, object]) -> str:
    platform = item.get("platform")
    if not isinstance(platform, dict):
        return ""
    return f"{platform['os']}/{platform['architecture']}"


def _require_sendable(**given: str | None) -> None:
    """What the server takes; it would speak of a header that nobody wrote."""
    for name, text in given.items():
        most = NAME_MAX if name == "name" else tus.VALUE_MAX
        if text is not None and not (0 < len(text) <= most and text.isprintable()):
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(
                f"must be 1 to {most} printable characters.", param_hint=option
            )


def _filename(archive: str) -> str | None:
    """Told for people to read; one that cannot be told is not."""
    name = Path(archive).name
    return name if archive != STDIN and name.isprintable() else None


def _print(pushed: Pushed, *, as_json: bool) -> None:
    view = pushed.view
    if pushed.skipped_bytes:
        there = f"{human_bytes(pushed.skipped_bytes)} were there and were not sent"
        echo(err, (there, "dim"))
    if as_json:
        as_document(view)
    elif view["image"]:
        image = view["image"]
        echo(out, f"{image.get('name') or image['reference']}@{image['digest']}")
    if view["status"] == "failed":
        more = f"{view['message']}\nNothing was stored. Set that right and push it again."
        refuse("Refused:", more, code=FAILED)
    echo(err, "proved and stored")


@contextmanager
def _errors(archive: str) -> Iterator[None]:
    try:
        yield
    except Changed as changed:
        refuse(str(changed), code=FAILED)
    except OSError as error:
        what = "standard input" if archive == STDIN else archive
        refuse(f"{what} cannot be read: {error.strerror or error}.")
    except KeyboardInterrupt:
        goes_on = "" if archive == STDIN else " The same command goes on from here."
        echo(err, f"Interrupted.{goes_on}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _file(archive: str, progress: UploadProgress) -> Iterator[Path]:
    """The archive as a file. Standard input is put into one: a cut needs what was sent before."""
    if archive != STDIN:
        _require_file(archive)
        yield Path(archive)
        return
    # Without one there is no object either, whatever its type says.
    if not sys.stdin:
        refuse("Standard input is closed: pipe an archive into it.")
    if sys.stdin.isatty():
        refuse("Standard input is a terminal: pipe an archive into it.")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="stdin-") as kept:
        if not _keep(sys.stdin.buffer, kept, progress):
            refuse("Nothing came on standard input.")
        yield Path(kept.name)


def _require_file(archive: str) -> None:
    path = Path(archive)
    if not archive:
        refuse("An empty name is no file: give the path of an archive.")
    if not path.exists():
        refuse(f"There is no file {archive}.")
    if path.is_dir():
        refuse(f"{archive} is a folder: give the TAR that docker save wrote.")
    if not path.is_file():
        refuse(f"{archive} is no regular file: pipe it into modelyard images push -")


def _keep(source: IO[bytes], into: IO[bytes], progress: UploadProgress) -> int:
    """Bytes of standard input."""
    size = 0
    while chunk := source.read(READ_BYTES):
        try:
            into.write(chunk)
            into.flush()
        except OSError as error:
            refuse(
                f"Standard input cannot be kept in {cache()} ({error.strerror}): make room, or set"
                " XDG_CACHE_HOME to a folder with room."
            )
        size += len(chunk)
        progress.reading(size)
    return size
