"""`modelyard up` and `down`: the whole system on one machine.

The stack and its settings are imported by the functions that need them: the SDKs below them take
longer to load than most other commands take to finish.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.client import FAILED, err, out, say
from cli.configuration import read_settings
from pipeline.errors import Misconfigured, YardError
from pipeline.stack.detached import Facts, Voice, start_detached
from pipeline.stack.names import PIECES

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.stack.state import State


def up(
    detach: Annotated[bool, typer.Option(help="Return when it is ready; it runs on.")] = False,
    ports: Annotated[
        str, typer.Option(help="fixed: a taken port is an error. auto: take the next free one.")
    ] = "fixed",
    only: Annotated[
        str, typer.Option(help=f"Only these pieces, comma-separated: {', '.join(PIECES)}.")
    ] = "",
    voice: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the embedded stack: broker, store, registry, engine, server, workers and agent.

    Each piece can be replaced by an address in the settings (MODELYARD_NATS_URL,
    MODELYARD_MONGO_URL, MODELYARD_REGISTRY, DOCKER_HOST).
    """
    if ports not in ("fixed", "auto"):
        raise typer.BadParameter("must be fixed or auto.", param_hint="--ports")
    if detach:
        _start_in_background(ports, only)
    else:
        wanted = frozenset(filter(None, (name.strip() for name in only.split(","))))
        _run(wanted or frozenset(PIECES), voice, auto_ports=ports == "auto")


def down() -> None:
    """Stop the embedded stack; its data stay in the state folder. Does nothing when none runs."""
    from pipeline.stack.leftovers import take_down

    state = _state()
    try:
        ran = asyncio.run(take_down(state))
    except YardError as error:
        _fail(error)
    except OSError as error:
        _fail(
            Misconfigured(
                f"The state folder {state.folder} cannot be used ({error.strerror or error}): "
                "set MODELYARD_STATE to the folder of the stack."
            )
        )
    say(err, "Stopped." if ran else f"Nothing runs from {state.folder}.")


def _start_in_background(ports: str, only: str) -> None:
    state = _state()
    run = state.run
    if run is not None and run.ready and run.supervisor.alive:
        say(err, f"Runs already from {state.folder} (process {run.pid}).")
        return
    command = [sys.executable, "-m", "cli.main", "up", "--ports", ports, "--only", only, "--voice"]
    try:
        state.create()
        facts = start_detached(command, log=state.log("supervisor"), report=_report)
    except YardError as error:
        _fail(error)
    _announce(facts)


def _run(only: frozenset[str], descriptor: int | None, *, auto_ports: bool) -> None:
    from pipeline.stack.running import Wishes, run_stack

    voice = None if descriptor is None else Voice(descriptor)

    def report(text: str) -> None:
        """In the background standard error is the log, which goes on when nobody listens."""
        if voice:
            voice.report(text)
            text = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}"
        _report(text)

    wishes = Wishes(auto_ports=auto_ports, only=only)
    ready = voice.ready if voice else _announce
    try:
        asyncio.run(run_stack(_settings(), os.environ, wishes, report=report, ready=ready))
    except YardError as error:
        if voice:
            voice.failed(error.message)
        _fail(error)


def _settings() -> Settings:
    try:
        return read_settings()
    except YardError as error:
        _fail(error)


def _state() -> State:
    from pipeline.stack.state import State

    return State(_settings().state)


def _report(text: str) -> None:
    say(err, f"  {text}")


def _announce(facts: Facts) -> None:
    if "MODELYARD_TOKEN" in facts:
        say(out, f"Dashboard  {facts['MODELYARD_URL']}/")
        say(out, f"Token      {facts['MODELYARD_TOKEN']}")
    say(err, f"All addresses and credentials: {_state().env_file}")


def _fail(error: YardError) -> NoReturn:
    say(err, (error.message, "red"))
    raise typer.Exit(FAILED) from error
