"""The `modelyard` command: one module per noun, joined here."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import IO, Any, cast

import typer

from cli import (
    containers,
    dead_letters,
    demo,
    doctor,
    events,
    images,
    nodes,
    processes,
    secrets,
    stack,
    token,
)
from cli.console import FAILED, USAGE, err, say


class CommandLine(typer.Typer):
    """Commands, and the streams and arguments that they can rely on."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _prepare()
        try:
            try:
                return super().__call__(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except OSError as error:
            sys.exit(_unwritten(error))


def _prepare() -> None:
    """Exits for arguments that no server can be told."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed by whoever started us: what nobody wants is written nowhere.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # A sign that the encoding lacks is no reason to say nothing at all.
        getattr(sys, name).reconfigure(errors="replace")
    for number, argument in enumerate(sys.argv):
        try:
            argument.encode()
        except UnicodeEncodeError:
            say(err, (f"Argument {number} is no UTF-8 text.", "red"))
            sys.exit(USAGE)


def _unwritten(error: OSError) -> int:
    """The exit code for output that is not taken. Raises the error when it is about another file.

    Standard output is given up: what is left for it would fail once more when Python ends.
    """
    if error.filename is not None or error.errno not in _OUTPUT:
        raise error
    if error.errno != errno.EPIPE:
        # Where standard error is full, too, there is nobody to tell.
        with suppress(OSError):
            say(err, ("The output cannot be written", "red"), f": {error.strerror}.")
    for stream in cast("tuple[IO[str], ...]", (sys.stdout, sys.stderr)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return FAILED


_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)

app = CommandLine(
    name="modelyard",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Takes in model container images, proves that they work, and runs them on GPU nodes.",
)

RUN_IT = "Run it"
USE_IT = "Use it"

for command in (demo.demo, stack.up, stack.down, doctor.doctor):
    app.command(rich_help_panel=RUN_IT)(command)
for command in (processes.api, processes.worker, processes.agent):
    app.command(rich_help_panel=RUN_IT)(command)

app.command(rich_help_panel=USE_IT)(events.events)
app.command(rich_help_panel=USE_IT)(containers.logs)
for name, group in {
    "images": images.app,
    "containers": containers.app,
    "nodes": nodes.app,
    "secrets": secrets.app,
    "token": token.app,
    "dead-letters": dead_letters.app,
}.items():
    app.add_typer(group, name=name, rich_help_panel=USE_IT)

if __name__ == "__main__":
    app()
