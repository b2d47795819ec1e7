"""`modelyard containers`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.call_content import content
from cli.client import FAILED, Client, err, out, say
from cli.console import refuse
from cli.named import Named, uuid_of
from cli.progress import follow
from cli.show import age, as_document, field, json_or_table

app = typer.Typer(no_args_is_help=True, help="Run images and look after what runs.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000)]

MOST_MEMORY_MIB = 2**30
"""A pebibyte."""
OVER = {"FAILED", "STOPPED", "LOST", "DELETED"}
ENDS = {"RUNNING", *OVER}
COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("STATUS", field("status")),
    ("PORTS", lambda item: _ports(item)),
    ("GPUS", lambda item: len(item["gpus"]) or ""),
    ("RESTARTS", field("restarts")),
    ("AGE", age("created_at")),
    ("REASON", field("reason")),
]


def _finite(given: float | None) -> float | None:
    if given is not None and not math.isfinite(given):
        raise typer.BadParameter(f"{given} is no amount.")
    return given


def _moment(text: str) -> datetime:
    """Whoever names no zone means UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2026-03-01T12:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
def run(
    image: str,
    command: Annotated[list[str] | None, typer.Argument(help="Instead of the image's own.")] = None,
    name: Annotated[str | None, typer.Option(help="Unique name.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE")] = None,
    port: Annotated[
        list[str] | None, typer.Option("--port", "-p", help=r"[HOST:]CONTAINER\[/udp]")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, max=1024, help="Default: what the image needs.")
    ] = None,
    gpu_model: Annotated[str | None, typer.Option(help="For instance nvidia-a100.")] = None,
    memory_mib: Annotated[int, typer.Option(min=0, max=MOST_MEMORY_MIB)] = 0,
    cpus: Annotated[float, typer.Option(min=0, callback=_finite)] = 0,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    restart: Annotated[str, typer.Option(help="no, on-failure or always")] = "on-failure",
    wait: Annotated[bool, typer.Option(help="Wait until it runs or has failed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run an image on a node that fits it."""
    client = Client()
    spec: dict[str, Any] = {
        "image": image,
        "name": name,
        "command": command or [],
        "env": dict(_pair(text) for text in env or []),
        "ports": [_port(text) for text in port or []],
        "gpus": gpus,
        "gpu_model": gpu_model,
        "resources": {"cpus": cpus, "memory_bytes": memory_mib * 1024 * 1024},
        "node": node,
        "restart": restart,
    }
    asked = {key: value for key, value in spec.items() if value is not None}
    container = client.call("POST", "/containers", json=asked)
    if wait:
        container = follow(client, "containers", container, until=ENDS)
    _tell(container, as_json=as_json)
    if container["status"] in ("FAILED", "LOST"):
        raise typer.Exit(FAILED)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    containers = Client().pages("/containers", limit=limit, status=status, name=name)
    json_or_table(containers, COLUMNS, as_json=as_json)


@app.command()
def show(container: Named) -> None:
    """Everything that is known about one container."""
    client = Client()
    uuid = uuid_of(client, "containers", container)
    as_document(client.call("GET", f"/containers/{uuid}"))


@app.command()
def stop(container: Named) -> None:
    """Ask for a stop and wait for it. A stopped container keeps its logs."""
    client = Client()
    uuid = uuid_of(client, "containers", container)
    record = client.call("POST", f"/containers/{uuid}/stop")
    record = follow(client, "containers", record, until=OVER)
    status = record["status"]
    if status in ("STOPPED", "DELETED"):
        say(err, status.lower())
        return
    meaning = {
        "LOST": "its node is away and stops it when it comes back",
        "FAILED": "it does not run, but it was not stopped",
    }[status]
    reason = f" Reason: {record['reason']}" if record["reason"] else ""
    refuse(f"It is {status}: {meaning}.{reason}", code=FAILED)


@app.command()
def delete(container: Named) -> None:
    """Stop and remove it; its GPUs are free afterwards."""
    client = Client()
    uuid = uuid_of(client, "containers", container)
    record = client.call("DELETE", f"/containers/{uuid}", params={"wait": 60})
    if record["status"] != "DELETED":
        say(err, f"asked for, but it is still {record['status']}: its node has not done it yet")
        raise typer.Exit(FAILED)
    err.print("deleted")


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
    """What it wrote, oldest first."""
    wanted = {"tail": tail, "follow": follow_, "since": since and since.isoformat()}
    params = {key: value for key, value in wanted.items() if value is not None}
    headers = {"Accept": "application/x-ndjson"}
    client = Client()
    path = f"/containers/{uuid_of(client, 'containers', container)}/logs"
    with client.entries(path, params=params, headers=headers) as entries:
        for entry in entries:
            stream = sys.stderr if entry["stream"] == "stderr" else sys.stdout
            # To the letter, as far as the encoding of the stream goes.
            stream.write(entry["text"])
            stream.flush()


@app.command()
def call(
    container: Named,
    data: Annotated[str, typer.Option(help="What to send: text, @FILE, or - for stdin.")] = "{}",
    content_type: Annotated[str, typer.Option(help="What it is.")] = "application/json",
    timeout: Annotated[
        float | None, typer.Option(callback=_finite, help="Seconds for the whole call.")
    ] = None,
) -> None:
    """Pass a call on to the model in a running container, and print its answer."""
    params = {} if timeout is None else {"timeout": timeout}
    options = {"params": params, "headers": {"Content-Type": content_type}}
    client = Client()
    with content(data) as body:
        path = f"/containers/{uuid_of(client, 'containers', container)}/run"
        with client.pieces("POST", path, content=body, **options) as said:
            _pass_on(said.iter_bytes(), is_good=not said.is_error)
    if said.is_error:
        refuse(f"The model answered {said.status_code}.", code=FAILED)


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


def _tell(container: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        as_document(container)
        return
    json_or_table([container], COLUMNS, as_json=False)
    for node, reasons in sorted(container["refusals"].items()):
        say(out, f"  {node}: {'; '.join(reasons)}")


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        refuse(f"{text!r} is not KEY=VALUE")
    return key, value


def _port(text: str) -> dict[str, Any]:
    mapping, _, protocol = text.partition("/")
    host, _, internal = mapping.rpartition(":")
    if not _is_port(internal) or not _is_port(host or "0") or not int(internal):
        refuse(f"{text!r} is not [HOST:]CONTAINER[/udp].", "Ports go from 1 to 65535.")
    return {"internal": int(internal), "host": int(host or 0), "protocol": protocol or "tcp"}


def _is_port(text: str) -> bool:
    # Other digits than ASCII ones count as digits, too, and thousands of them are no number.
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 2**16


def _ports(item: dict[str, Any]) -> str:
    return " ".join(f"{p['address']}:{p['host']}→{p['internal']}" for p in item["ports"])
