"""The `modelyard` command: one module per noun, joined here."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import IO, Annotated, Any, cast

import typer

from cli import builds, manifests
from cli.commands import (
    access,
    containers,
    demo,
    deployments,
    events,
    history,
    images,
    models,
    nodes,
    organisations,
    stack,
    webhooks,
)
from cli.commands.access import broker, contexts
from cli.commands.history import audit
from cli.commands.registries import catalog, directory, secrets
from cli.console import FAILED, USAGE, add_formats, echo, err
from cli.credentials import CHOSEN


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
            echo(err, (f"Argument {number} is no UTF-8 text.", "red"))
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
            echo(err, ("The output cannot be written", "red"), f": {error.strerror}.")
    for stream in cast("tuple[IO[str], ...]", (sys.stdout, sys.stderr)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return FAILED


_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)

app = CommandLine(name="modelyard", no_args_is_help=True, pretty_exceptions_show_locals=False)


def _tell_version(*, is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"modelyard {version('modelyard')}")
        raise typer.Exit


@app.callback()
def modelyard(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Print it and end."),
    ] = False,
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="The server to use: modelyard contexts list.")
    ] = None,
) -> None:
    """Takes in model container images, proves that they work, and runs them on GPU nodes.

    Exit codes: 0 done, 1 failed or refused, 2 wrong arguments, 3 not found, 4 not allowed, 5 no
    answer, 130 interrupted.
    """
    CHOSEN.set(context)


RUN_IT = "Run it"
USE_IT = "Use it"

for command in (
    *(demo.demo, stack.up, stack.down, stack.doctor, stack.collect),
    *(stack.api, stack.worker, stack.agent),
):
    app.command(rich_help_panel=RUN_IT)(command)

for command in (access.login, access.logout, access.whoami, events.events):
    app.command(rich_help_panel=USE_IT)(command)
app.command(rich_help_panel=USE_IT)(containers.logs)
app.command(rich_help_panel=USE_IT)(history.timeline)
app.command(rich_help_panel=USE_IT)(history.watch)
app.command(rich_help_panel=USE_IT)(audit.audit)
images.app.command("build")(builds.build)
access.app.command()(broker.nats)
app.command(rich_help_panel=USE_IT)(manifests.apply)
app.command(rich_help_panel=USE_IT)(manifests.export)
app.command(rich_help_panel=USE_IT)(nodes.top)
app.command("deploy", rich_help_panel=USE_IT)(deployments.create)
app.command(rich_help_panel=USE_IT)(deployments.scale)
app.command(rich_help_panel=USE_IT)(deployments.rollback)
for name, group in {
    "images": images.app,
    "builds": builds.app,
    "containers": containers.app,
    "volumes": containers.volumes,
    "webhooks": webhooks.app,
    "deployments": deployments.app,
    "nodes": nodes.app,
    "registries": directory.app,
    "catalog": catalog.app,
    "models": models.app,
    "secrets": secrets.app,
    "orgs": organisations.orgs,
    "users": organisations.users,
    "token": access.app,
    "contexts": contexts.app,
    "dead-letters": events.dead_letters,
}.items():
    app.add_typer(group, name=name, rich_help_panel=USE_IT)

add_formats(app)

if __name__ == "__main__":
    app()
