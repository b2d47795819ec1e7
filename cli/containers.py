"""`modelyard containers`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import FAILED, USAGE, Client, err, out, say
from cli.named import Named, uuid_of
from cli.progress import follow
from cli.show import age, as_document, field, json_or_table

app = typer.Typer(no_args_is_help=True, help="Run images and look after what runs.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000)]

PIECE_BYTES = 64 * 1024
ENDS = {"RUNNING", "FAILED", "STOPPED", "LOST", "DELETED"}
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


@app.command()
def run(
    image: str,
    command: Annotated[list[str] | None, typer.Argument(help="Instead of the image's own.")] = None,
    name: Annotated[str | None, typer.Option(help="Unique name.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE")] = None,
    port: Annotated[
        list[str] | None, typer.Option("--port", "-p", help=r"[HOST:]CONTAINER\[/udp]")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="Default: what the image needs.")] = None,
    gpu_model: Annotated[str | None, typer.Option(help="For instance nvidia-a100.")] = None,
    memory_mib: Annotated[int, typer.Option(min=0)] = 0,
    cpus: Annotated[float, typer.Option(min=0)] = 0,
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
    json_or_table([container], COLUMNS, as_json=as_json)
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
    record = follow(client, "containers", record, until={"STOPPED", "FAILED", "DELETED"})
    err.print(record["status"].lower())


@app.command()
def delete(container: Named) -> None:
    """Stop and remove it; its GPUs are free afterwards."""
    client = Client()
    uuid = uuid_of(client, "containers", container)
    record = client.call("DELETE", f"/containers/{uuid}", params={"wait": 60})
    if record["status"] != "DELETED":
        err.print(f"asked for, but it is still {record['status']}: its node has not done it yet")
        raise typer.Exit(FAILED)
    err.print("deleted")


@app.command()
def logs(
    container: Named,
    tail: Annotated[int, typer.Option(min=0, help="Last lines to begin with.")] = 100,
    since: Annotated[datetime | None, typer.Option(help="UTC time.")] = None,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it writes.")] = False,
) -> None:
    """What it wrote, oldest first."""
    wanted = {"tail": tail, "follow": follow_, "since": since and since.isoformat() + "Z"}
    params = {key: value for key, value in wanted.items() if value is not None}
    headers = {"Accept": "application/x-ndjson"}
    client = Client()
    path = f"/containers/{uuid_of(client, 'containers', container)}/logs"
    with client.lines(path, params=params, headers=headers) as lines:
        for line in lines:
            if line:
                entry = json.loads(line)
                say(err if entry["stream"] == "stderr" else out, entry["text"].rstrip("\n"))


@app.command()
def call(
    container: Named,
    data: Annotated[str, typer.Option(help="What to send: text, @FILE, or - for stdin.")] = "{}",
    content_type: Annotated[str, typer.Option(help="What it is.")] = "application/json",
    timeout: Annotated[float | None, typer.Option(help="Seconds for the whole call.")] = None,
) -> None:
    """Pass a call on to the model in a running container, and print its answer."""
    params = {} if timeout is None else {"timeout": timeout}
    options = {"params": params, "headers": {"Content-Type": content_type}}
    client = Client()
    with ExitStack() as stack:
        content = stack.enter_context(_content(data))
        path = f"/containers/{uuid_of(client, 'containers', container)}/run"
        said = stack.enter_context(client.pieces("POST", path, content=content, **options))
        for piece in said.iter_bytes():
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        is_error = said.is_error
    if is_error:
        say(err, (f"The model answered {said.status_code}.", "red"))
        raise typer.Exit(FAILED)


def _content(data: str) -> AbstractContextManager[bytes | Iterable[bytes]]:
    """Files are read while they are sent."""
    if data == "-":
        # Not the file itself: a pipe would be taken for an empty one.
        return nullcontext(iter(partial(os.read, sys.stdin.fileno(), PIECE_BYTES), b""))
    if not data.startswith("@"):
        return nullcontext(data.encode())
    try:
        return Path(data[1:]).open("rb")
    except OSError as error:
        say(err, (f"{data[1:]} cannot be read: {error.strerror}", "red"))
        raise typer.Exit(USAGE) from error


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        say(err, (f"{text!r} is not KEY=VALUE", "red"))
        raise typer.Exit(USAGE)
    return key, value


def _port(text: str) -> dict[str, Any]:
    mapping, _, protocol = text.partition("/")
    host, _, internal = mapping.rpartition(":")
    if not internal.isdigit() or not (host or "0").isdigit():
        say(err, (f"{text!r} is not [HOST:]CONTAINER[/udp]", "red"))
        raise typer.Exit(USAGE)
    return {"internal": int(internal), "host": int(host or 0), "protocol": protocol or "tcp"}


def _ports(item: dict[str, Any]) -> str:
    return " ".join(f"{p['address']}:{p['host']}→{p['internal']}" for p in item["ports"])
