"""`modelyard containers`, and `modelyard volumes`: what they keep."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from cli.client import Client, Named, SeveralNamed, given
from cli.commands.run import COLUMNS, ENDS, OVER, Timeout, pairs, replace, run, until_it_runs
from cli.console import (
    FAILED,
    ID,
    AsJson,
    AsJsonOrTable,
    Limit,
    age,
    field,
    for_each,
    json_or_row,
    json_or_table,
    refuse,
)
from cli.content import content
from cli.probes import finite
from cli.progress import follow, has_settled

if TYPE_CHECKING:
    from modelyard.client.types import ExecEnd, ExecOutput, ExecSpec, LogEntry

app = typer.Typer(no_args_is_help=True, help="Run images and look after what runs.")
app.command()(run)
app.command()(replace)

WAIT_S = 60


def _moment(text: str) -> datetime:
    """Whoever names no zone means UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2026-03-01T12:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    image: Annotated[str | None, typer.Option(help="Only of this image.")] = None,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    limit: Limit = 50,
    as_json: AsJsonOrTable = False,
) -> None:
    """Newest first.

    For instance: modelyard containers list --status RUNNING
    """
    client = Client()
    query = given(
        status=status,
        name=name,
        image=image and client.id_of("images", image),
        node=node and client.id_of("nodes", node),
    )
    containers = client.pages("/containers", limit=limit, **query)
    json_or_table(containers, COLUMNS, as_json=as_json)


@app.command()
def show(container: Named, as_json: AsJson = False) -> None:
    """Everything that is known about one container.

    For instance: modelyard containers show first
    """
    client = Client()
    json_or_row(client.call("GET", client.path_to("containers", container)), COLUMNS)


@app.command()
def start(containers: SeveralNamed, timeout: Timeout = None) -> None:
    """Run again what has stopped, failed or lost its node, and wait for it.

    For instance: modelyard containers start first --timeout 60
    """
    for_each(containers, partial(_run_again, Client(), "start", timeout))


@app.command()
def restart(containers: SeveralNamed, timeout: Timeout = None) -> None:
    """Stop and start again, and wait for it; what has stopped or failed is started.

    For instance: modelyard containers restart first
    """
    for_each(containers, partial(_run_again, Client(), "restart", timeout))


@app.command()
def stop(containers: SeveralNamed) -> None:
    """Ask for a stop and wait for it. A stopped container keeps its logs.

    For instance: modelyard containers stop first second
    """
    for_each(containers, partial(_stop, Client()))


@app.command()
def delete(
    containers: SeveralNamed,
    volumes: Annotated[bool, typer.Option("--volumes", help="With what they kept.")] = False,
) -> None:
    """Stop and remove them; their GPUs are free afterwards.

    For instance: modelyard containers delete first --volumes
    """
    for_each(containers, partial(_delete, Client(), volumes))


def _run_again(client: Client, verb: str, timeout_s: float | None, container: str) -> str:
    path = client.path_to("containers", container)
    record = until_it_runs(client, client.call("POST", f"{path}/{verb}"), timeout_s)
    if not has_settled(record, ENDS):
        raise typer.Exit(FAILED)
    if record["status"] not in ("RUNNING", "UNHEALTHY"):
        _refuse_outcome(record, "it does not run")
    return str(record["status"]).lower()


def _stop(client: Client, container: str) -> str:
    record = client.call("POST", client.path_to("containers", container) + "/stop")
    record = follow(client, "containers", record, until=OVER)
    meanings = {
        "LOST": "its node is away and stops it when it comes back",
        "FAILED": "it does not run, but it was not stopped",
    }
    if record["status"] in meanings:
        _refuse_outcome(record, meanings[record["status"]])
    return str(record["status"]).lower()


def _delete(client: Client, volumes: bool, container: str) -> str:
    path = client.path_to("containers", container)
    params = given(wait=WAIT_S, volumes=volumes or None)
    record = client.call("DELETE", path, params=params)
    if record["status"] != "DELETED":
        what = f"Asked for, but it is still {record['status']}:"
        refuse(what, "its node has not done it yet.", code=FAILED)
    return "deleted"


def _refuse_outcome(record: dict[str, Any], meaning: str) -> NoReturn:
    reason = f" Reason: {record['reason']}" if record["reason"] else ""
    refuse(f"It is {record['status']}: {meaning}.{reason}", code=FAILED)


@app.command()
def logs(
    container: Named,
    tail: Annotated[int, typer.Option(min=0, max=100_000, help="Last lines to begin with.")] = 100,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_moment, metavar="TIME", help="ISO 8601; UTC where no zone is named."),
    ] = None,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it writes.")] = False,
) -> None:
    """What it wrote, oldest first.

    For instance: modelyard logs first --follow --tail 20
    """
    client = Client()
    uuid = client.id_of("containers", container)
    start = None if since is None else since.isoformat()
    for entry in client.read_logs(uuid, tail=tail, follow=follow_, since=start):
        _write(entry)


def _write(entry: LogEntry | ExecOutput) -> None:
    """To the letter, as far as the encoding of the stream goes."""
    stream = sys.stderr if entry["stream"] == "stderr" else sys.stdout
    stream.write(entry["text"])
    stream.flush()


@app.command("exec")
def exec_(
    container: Named,
    command: Annotated[list[str], typer.Argument(help="Program and arguments; no shell.")],
    timeout: Annotated[
        float, typer.Option(callback=finite, help="Seconds after which it is killed.")
    ] = 60,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Where it starts.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="NAME or ID[:GROUP].")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE")] = None,
) -> None:
    """Run a command in a container that runs; its exit code is ours.

    For instance: modelyard containers exec first --timeout 10 -- ls -l /
    """
    spec: ExecSpec = {"command": command, "timeout_s": timeout, "env": pairs(env)}
    if workdir is not None:
        spec["working_dir"] = workdir
    if user is not None:
        spec["user"] = user
    client = Client()
    end: ExecEnd | None = None
    for entry in client.run_command(client.id_of("containers", container), spec):
        if "exit_code" in entry:
            end = cast("ExecEnd", entry)
        else:
            _write(entry)
    if end is None:
        refuse("It was cut off:", "the server said nothing of its end.", code=FAILED)
    if end["timed_out"]:
        refuse("It was killed:", f"it did not end within {timeout:g} s.", code=FAILED)
    raise typer.Exit(end["exit_code"])


@app.command()
def call(
    container: Named,
    data: Annotated[str, typer.Option(help="What to send: text, @FILE, or - for stdin.")] = "{}",
    content_type: Annotated[str, typer.Option(help="What it is.")] = "application/json",
    timeout: Annotated[
        float | None, typer.Option(callback=finite, help="Seconds for the whole call.")
    ] = None,
) -> None:
    """Pass a call on to the model in a running container, and print its answer.

    For instance: modelyard containers call first --data '{"text": "hello"}'
    """
    client = Client()
    with (
        content(data) as body,
        client.call_container(
            client.id_of("containers", container), body, timeout=timeout, content_type=content_type
        ) as answer,
    ):
        _pass_on(answer.iter_bytes(), is_good=not answer.is_error)
    if answer.is_error:
        refuse(f"The model answered {answer.status_code}.", code=FAILED)


def _pass_on(pieces: Iterator[bytes], *, is_good: bool) -> None:
    """To the letter; on a terminal what is said about a failure gets a line of its own."""
    last, is_whole = b"\n", False
    try:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            last = piece or last
        is_whole = True
    finally:
        if not (is_whole and is_good) and not last.endswith(b"\n") and sys.stdout.isatty():
            sys.stdout.buffer.write(b"\n")
            sys.stdout.buffer.flush()


volumes = typer.Typer(no_args_is_help=True, help="What containers keep on their nodes.")
VOLUME_COLUMNS = [
    (ID, field("uuid")),
    ("CONTAINER", field("name")),
    ("PATH", field("path")),
    ("NODE", field("node_name")),
    ("STATUS", field("status")),
    ("AGE", age("created_at")),
]


@volumes.command("list")
def list_volumes(limit: Limit = 50, as_json: AsJson = False) -> None:
    """Newest first, with the name of the containers that get them.

    For instance: modelyard volumes list --limit 10
    """
    json_or_table(Client().pages("/volumes", limit=limit), VOLUME_COLUMNS, as_json=as_json)


@volumes.command("delete")
def delete_volumes(
    named: Annotated[list[str], typer.Argument(metavar="VOLUMES...", help="Their whole IDs.")],
) -> None:
    """Remove them for good; their containers must be gone.

    For instance: modelyard volumes delete 0a8f8a4e-93f1-4c5f-8a64-0e5a1cf1f7a0
    """
    for_each(named, partial(_delete_volume, Client()))


def _delete_volume(client: Client, volume: str) -> str:
    return str(client.call("DELETE", "/volumes", volume)["status"]).lower()
