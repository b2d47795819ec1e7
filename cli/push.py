"""`modelyard images push`: an archive of `docker save` into the platform."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated, NoReturn

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.archive_plan import READ_BYTES
from cli.archive_push import Changed, Pushed, cache, forget_old_notes, push_archive
from cli.client import FAILED, USAGE, Client, err, out, say
from cli.lines import Lines
from cli.show import as_document, human_bytes
from pipeline.rules import tus
from schemas.upload import UploadWish

INTERRUPTED = 130
STDIN = "-"
NAME_MAX = 255


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
    _require_sendable(name=name, repo_tag=repo_tag, platform=platform, model=model, version=version)
    wish = UploadWish(
        name=name,
        filename=_filename(archive),
        repo_tag=repo_tag,
        platform=platform,
        model=model,
        version=version,
    )
    client = Client()
    forget_old_notes(time.time())
    with _explained(archive), _watch() as watch, _file(archive, watch) as path:
        pushed = push_archive(client, path, tus.metadata(wish), watch)
    _tell(pushed, as_json=as_json)


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


def _watch() -> Bar | Lines:
    return Bar() if err.is_terminal else Lines(partial(say, err))


def _tell(pushed: Pushed, *, as_json: bool) -> None:
    view = pushed.view
    if pushed.skipped_bytes:
        there = f"{human_bytes(pushed.skipped_bytes)} were there and were not sent"
        say(err, (there, "dim"))
    if as_json:
        as_document(view)
    elif view["image"]:
        say(out, f"{view['image']['reference']}@{view['image']['digest']}")
    if view["status"] == "failed":
        say(err, ("Refused: ", "red"), str(view["message"]))
        raise typer.Exit(FAILED)


class Bar:
    """How much, how fast, how long still. A `Watch`."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[why]}", markup=False),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task("looking", total=None, why="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def reading(self, done: int) -> None:
        self._progress.update(self._task, description="reading", completed=done)

    def sending(self, done: int, total: int) -> None:
        # The speed counts from here: what was there already was not sent.
        self._progress.reset(self._task, description="sending", completed=done, total=total, why="")

    def moved(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def waiting(self, reason: str) -> None:
        self._progress.update(self._task, why=reason)

    def storing(self) -> None:
        self._progress.update(self._task, description="storing", why="")


@contextmanager
def _explained(archive: str) -> Iterator[None]:
    try:
        yield
    except Changed as changed:
        say(err, (str(changed), "red"))
        raise typer.Exit(FAILED) from changed
    except OSError as error:
        what = "standard input" if archive == STDIN else archive
        say(err, (f"{what} cannot be read: {error.strerror or error}.", "red"))
        raise typer.Exit(USAGE) from error
    except KeyboardInterrupt:
        goes_on = "" if archive == STDIN else " The same command goes on from here."
        say(err, f"Interrupted.{goes_on}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _file(archive: str, watch: Bar | Lines) -> Iterator[Path]:
    """The archive as a file. Standard input is put into one: a cut needs what was sent before."""
    if archive != STDIN:
        _require_file(archive)
        yield Path(archive)
        return
    # Without one there is no object either, whatever its type says.
    if not sys.stdin:
        _refuse_input("Standard input is closed: pipe an archive into it.")
    if sys.stdin.isatty():
        _refuse_input("Standard input is a terminal: pipe an archive into it.")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="stdin-") as kept:
        if not _keep(sys.stdin.buffer, kept, watch):
            _refuse_input("Nothing came on standard input.")
        yield Path(kept.name)


def _require_file(archive: str) -> None:
    path = Path(archive)
    if not archive:
        _refuse_input("An empty name is no file: give the path of an archive.")
    if not path.exists():
        _refuse_input(f"There is no file {archive}.")
    if path.is_dir():
        _refuse_input(f"{archive} is a folder: give the TAR that docker save wrote.")
    if not path.is_file():
        _refuse_input(f"{archive} is no regular file: pipe it into modelyard images push -")


def _keep(source: IO[bytes], into: IO[bytes], watch: Bar | Lines) -> int:
    """Bytes of standard input."""
    size = 0
    while chunk := source.read(READ_BYTES):
        try:
            into.write(chunk)
            into.flush()
        except OSError as error:
            _refuse_input(
                f"Standard input cannot be kept in {cache()} ({error.strerror}): make room, or set"
                " XDG_CACHE_HOME to a folder with room."
            )
        size += len(chunk)
        watch.reading(size)
    return size


def _refuse_input(why: str) -> NoReturn:
    say(err, (why, "red"))
    raise typer.Exit(USAGE)
