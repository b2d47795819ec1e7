"""`modelyard images push`: an archive of `docker save` into the platform."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.archive_plan import READ_BYTES, Plan, plan
from cli.client import FAILED, USAGE, Client, err, out, say
from cli.client_uploads import Interrupted, UploadClient
from cli.show import as_document, human_bytes
from pipeline.rules import tus
from schemas.upload import UploadWish


def push(
    archive: Annotated[str, typer.Argument(help="A TAR of docker save, or - for standard input.")],
    name: Annotated[str | None, typer.Option(help="Default: like its RepoTag.")] = None,
    repo_tag: Annotated[str | None, typer.Option(help="Which of several images.")] = None,
    platform: Annotated[str | None, typer.Option(help="For instance linux/arm64.")] = None,
    model: Annotated[str | None, typer.Option(help="Identifier; goes with --version.")] = None,
    version: Annotated[str | None, typer.Option(help="Deliver it to this version.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send an image archive. Layers that are there are not sent; a cut is gone on from.

    For instance: docker save team/model:1 | modelyard images push -
    """
    if (model is None) != (version is None):
        raise typer.BadParameter("--model and --version go together.")
    client = Client()
    with _bar() as bar, _file(archive, bar) as path:
        wish = UploadWish(
            name=name,
            filename=None if archive == "-" else Path(archive).name,
            repo_tag=repo_tag,
            platform=platform,
            model=model,
            version=version,
        )
        view = _push(client, bar, path, tus.metadata(wish))
    if as_json:
        as_document(view)
    elif view["image"]:
        say(out, f"{view['image']['reference']}@{view['image']['digest']}")
    if view["status"] == "failed":
        say(err, ("Refused: ", "red"), str(view["message"]))
        raise typer.Exit(FAILED)


def _push(client: Client, bar: Progress, path: Path, metadata: str) -> dict[str, Any]:
    uploads = UploadClient(client)
    with path.open("rb") as file:
        task = bar.add_task("looking", total=path.stat().st_size)
        what = plan(path, uploads.present)
        begun = _Begun(client.url, path, what, metadata)
        address = begun.resumed(uploads) or begun.remember(uploads.create(what.length, metadata))
        bar.update(task, description="sending")
        _send(uploads, bar, task, address, what, file)
        bar.update(task, description="storing")
        view = uploads.outcome(address)
        begun.forget()
        if what.skipped_bytes:
            said = f"{human_bytes(what.skipped_bytes)} were there and were not sent"
            bar.console.print(said, style="dim")
    return view


def _send(
    uploads: UploadClient, bar: Progress, task: TaskID, address: str, what: Plan, file: BinaryIO
) -> None:
    total = what.length + what.skipped_bytes
    bar.update(task, total=total)
    uploads.send(
        address,
        what.length,
        lambda offset: what.read(file, offset),
        lambda offset: bar.update(task, completed=what.skipped_bytes + offset),
    )


class _Begun:
    """Remembers which upload a file is sent to, so that another run goes on with it."""

    def __init__(self, url: str, path: Path, what: Plan, metadata: str) -> None:
        stat = path.stat()
        identity = [url, str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns]
        key = json.dumps([*identity, what.fingerprint, metadata])
        self._note = _cache() / "uploads" / hashlib.sha256(key.encode()).hexdigest()
        self._length = what.length

    def resumed(self, uploads: UploadClient) -> str | None:
        """The address of an upload that can be continued."""
        try:
            address = self._note.read_text()
        except OSError:
            return None
        try:
            return address if uploads.offset(address, self._length) is not None else None
        except Interrupted:
            return None

    def remember(self, address: str) -> str:
        self._note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._note.write_text(address)
        return address

    def forget(self) -> None:
        self._note.unlink(missing_ok=True)


@contextmanager
def _file(archive: str, bar: Progress) -> Iterator[Path]:
    """The archive as a file. Standard input is put into one: a cut needs what was sent before."""
    if archive != "-":
        if not Path(archive).is_file():
            say(err, (f"There is no file {archive}.", "red"))
            raise typer.Exit(USAGE)
        yield Path(archive)
        return
    _cache().mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=_cache(), prefix="stdin-") as kept:
        task = bar.add_task("reading", total=None)
        while chunk := sys.stdin.buffer.read(READ_BYTES):
            kept.write(chunk)
            bar.advance(task, len(chunk))
        kept.flush()
        bar.remove_task(task)
        yield Path(kept.name)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard"


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )
