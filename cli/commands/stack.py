"""`modelyard up`, `down` and `doctor`: the whole system on one machine; and one process of it each.

The stack and its settings are imported by the functions that need them: the SDKs below them take
longer to load than most other commands take to finish.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cli.commands.access.diagnosis import examine_server
from cli.console import FAILED, echo, err, out, refuse
from pipeline.errors import Misconfigured, YardError
from pipeline.stack import PIECES
from pipeline.stack.detached import Facts, Notifier, start_detached

if TYPE_CHECKING:
    from pipeline.stack.state import State
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from cli.console import OnlyJson

if TYPE_CHECKING:
    from pipeline.stack.diagnosis import Finding
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError

    from pipeline.settings import Settings


def up(
    detach: Annotated[bool, typer.Option(help="Return when it is ready; it runs on.")] = False,
    ports: Annotated[
        str, typer.Option(help="fixed: a taken port is an error. auto: take the next free one.")
    ] = "fixed",
    only: Annotated[
        str, typer.Option(help=f"Only these pieces, comma-separated: {', '.join(PIECES)}.")
    ] = "",
    notify_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the embedded stack: broker, store, registry, engine, server, workers and agent.

    Each piece can be replaced by an address in the settings (MODELYARD_NATS_URL,
    MODELYARD_MONGO_URL, MODELYARD_REGISTRY, DOCKER_HOST).

    For instance: modelyard up --detach --ports auto
    """
    if ports not in ("fixed", "auto"):
        raise typer.BadParameter("must be fixed or auto.", param_hint="--ports")
    if detach:
        _start_in_background(ports, only)
    else:
        wanted = frozenset(filter(None, (name.strip() for name in only.split(","))))
        _run(wanted or frozenset(PIECES), notify_fd, auto_ports=ports == "auto")


def down() -> None:
    """Stop the embedded stack; its data stay in the state folder. Does nothing when none runs.

    For instance: modelyard down
    """
    from pipeline.stack.running import take_down

    with _errors():
        state = _state()
        try:
            ran = asyncio.run(take_down(state))
        except OSError as error:
            raise Misconfigured(
                f"The state folder {state.folder} cannot be used ({error.strerror or error}): "
                "set MODELYARD_STATE to the folder of the stack."
            ) from error
    echo(err, "Stopped." if ran else f"Nothing runs from {state.folder}.")


def collect() -> None:
    """Give back now what deleted images hold in the registry of the stack that runs here.

    It is done once a day by itself. Pushes wait meanwhile.

    For instance: modelyard collect
    """
    from pipeline.stack.collection import ask

    with _errors():
        freed = asyncio.run(ask(read_settings(), _state()))
    if freed is None:
        echo(err, "Images are being pushed: it is done after them.")
    else:
        echo(out, f"{freed / 2**20:.1f} MiB given back.")


def api() -> NoReturn:
    """Serve HTTP: the doors and the dashboard.

    For instance: modelyard api
    """
    _become("api")


def worker() -> NoReturn:
    """Work through the stages of the pipeline.

    For instance: modelyard worker
    """
    _become("workers")


def agent() -> NoReturn:
    """Look after the Docker Engine and the GPUs of this machine.

    For instance: modelyard agent
    """
    _become("workers.agent")


def _become(module: str) -> NoReturn:
    """The same process id, so that signals of a service manager arrive where they should."""
    os.execv(sys.executable, [sys.executable, "-m", module])


def _start_in_background(ports: str, only: str) -> None:
    command = [sys.executable, "-m", "cli.main", "up", "--ports", ports, "--only", only]
    command.append("--notify-fd")
    with _errors():
        state = _state()
        run = state.run
        if run is not None and run.ready and run.supervisor.alive:
            echo(err, f"Runs already from {state.folder} (process {run.pid}).")
            return
        state.create()
        facts = start_detached(command, log=state.log("supervisor"), report=_report)
    _announce(facts)


def _run(only: frozenset[str], descriptor: int | None, *, auto_ports: bool) -> None:
    from pipeline.stack.plan import StartOptions
    from pipeline.stack.running import run_stack

    parent = None if descriptor is None else Notifier(descriptor)

    def report(text: str) -> None:
        """In the background standard error is the log, which goes on when nobody listens."""
        if parent:
            parent.report(text)
            text = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}"
        _report(text)

    options = StartOptions(auto_ports=auto_ports, only=only)
    ready = parent.ready if parent else _announce
    with _errors():
        try:
            asyncio.run(run_stack(read_settings(), os.environ, options, report=report, ready=ready))
        except YardError as error:
            if parent:
                parent.failed(error.message)
            raise


def _state() -> State:
    from pipeline.stack.state import State

    return State(read_settings().state)


def _report(text: str) -> None:
    echo(err, f"  {text}")


def _announce(facts: Facts) -> None:
    if "MODELYARD_TOKEN" in facts:
        echo(out, f"Dashboard  {facts['MODELYARD_URL']}/")
        echo(out, f"Token      {facts['MODELYARD_TOKEN']}")
    echo(err, f"All addresses and credentials: {_state().env_file}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except YardError as error:
        refuse(error.message, code=FAILED)


def doctor(as_json: OnlyJson = False) -> None:
    """Check everything that the stack needs; say what to do about what is missing.

    The exit code is 1 when anything is.

    For instance: modelyard doctor
    """
    findings = _findings() + examine_server()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = ("ok  ", "green") if finding.ok else ("FAIL", "red")
            echo(out, mark, f" {finding.name}: {finding.detail}")
            if finding.remedy:
                echo(out, f"     {finding.remedy}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)


def _findings() -> list[Finding]:
    """Of the settings alone when they are wrong: what to look at is said by them."""
    from pipeline.stack.checks import examine
    from pipeline.stack.diagnosis import Finding

    try:
        settings = read_settings()
    except Misconfigured as bad:
        remedy = "Set it right, or unset it: docs/settings.md tells what it is for."
        return [Finding(name, False, why, remedy) for name, why in bad.facts["faults"]]
    return asyncio.run(examine(settings, os.environ))


class Fault(NamedTuple):
    setting: str
    problem: str
    """Without the value: it may be a secret."""


def read_settings(**given: Any) -> Settings:
    """From the environment, except what is given.

    Raises Misconfigured for all that is wrong at once, each as a Fault in its fact `faults`.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from pipeline.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        faults = _faults(error)
    except SettingsError as error:
        faults = [Fault("A setting", str(error))]
    problems = " ".join(f"{name} is wrong: {problem}." for name, problem in faults)
    raise Misconfigured(problems, faults=faults)


def _faults(error: ValidationError) -> list[Fault]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        Fault(
            f"MODELYARD_{str(each['loc'][0]).upper()}" if each["loc"] else "A setting", each["msg"]
        )
        for each in found
    ]
