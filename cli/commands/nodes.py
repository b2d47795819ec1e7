"""`modelyard nodes`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from cli.client import Client, Named, SeveralNamed
from cli.console import (
    FORMAT,
    ID,
    AsJson,
    AsJsonOrTable,
    Column,
    Format,
    Limit,
    Wide,
    age,
    as_document,
    field,
    for_each,
    json_or_row,
    json_or_table,
    labels,
    size,
)

app = typer.Typer(no_args_is_help=True, help="The machines that run containers.")

COLUMNS: list[Column] = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("STATUS", lambda item: _status(item)),
    ("GPUS", lambda item: _gpus(item)),
    ("CPUS", field("inventory.cpus")),
    ("MEMORY", size("inventory.memory_bytes")),
    ("ENGINE", field("inventory.engine_version")),
    ("ADDRESS", Wide(field("address"))),
    ("LABELS", Wide(labels("labels"))),
    ("BEAT", age("last_heartbeat")),
    ("REASON", field("reason")),
]
USES = [
    ("CONTAINER", field("name")),
    (ID, field("container")),
    ("NODE", field("node_name")),
    ("CPUS", lambda item: _rounded(item["cpus"], "")),
    ("MEMORY", size("memory_bytes")),
    ("OF", size("memory_limit_bytes")),
    ("RECEIVED", size("network_received_bytes")),
    ("SENT", size("network_sent_bytes")),
    ("GPUS", lambda item: len(item["gpus"]) or None),
    ("GPU", lambda item: _rounded(item["gpu_percent"], "%")),
    ("GPU MEMORY", lambda item: _rounded(item["gpu_memory_percent"], "%")),
]
_DRAINING = "draining: modelyard nodes show {node} says what is left"


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Nodes with their GPUs, used and in total.

    For instance: modelyard nodes list --status READY
    """
    nodes = Client().pages("/nodes", limit=limit, status=status, name=name)
    json_or_table(nodes, COLUMNS, as_json=as_json)


@app.command()
def show(node: Named, as_json: AsJson = False) -> None:
    """Everything that is known about one node.

    For instance: modelyard nodes show gpu-1
    """
    client = Client()
    json_or_row(client.call("GET", client.path_to("nodes", node)), COLUMNS)


@app.command()
def cordon(nodes: SeveralNamed) -> None:
    """Place nothing new on them; what runs there goes on.

    For instance: modelyard nodes cordon gpu-1
    """
    for_each(
        nodes, partial(_ask, Client(), "POST", "/cordon", "cordoned: nothing new is placed there")
    )


@app.command()
def uncordon(nodes: SeveralNamed) -> None:
    """Place containers on them again.

    For instance: modelyard nodes uncordon gpu-1
    """
    for_each(nodes, partial(_ask, Client(), "POST", "/uncordon", "uncordoned"))


@app.command()
def drain(nodes: SeveralNamed) -> None:
    """Empty them: nothing new is placed there, and replicas of deployments move to other nodes.

    For instance: modelyard nodes drain gpu-1
    """
    for_each(nodes, partial(_ask, Client(), "POST", "/drain", _DRAINING))


@app.command()
def resume(nodes: SeveralNamed) -> None:
    """End their drain: containers are placed on them again.

    For instance: modelyard nodes resume gpu-1
    """
    for_each(nodes, partial(_ask, Client(), "POST", "/resume", "resumed"))


@app.command()
def delete(nodes: SeveralNamed) -> None:
    """Give up machines that are LOST; what waited for them is placed anew.

    For instance: modelyard nodes delete gpu-1 gpu-2
    """
    for_each(nodes, partial(_ask, Client(), "DELETE", "", "deleted"))


def top(
    container: Annotated[str | None, typer.Argument(help="Only this one: name or ID.")] = None,
    limit: Limit = 50,
    as_json: AsJsonOrTable = False,
) -> None:
    """What nodes have, and what containers use of it that run.

    For instance: modelyard top --limit 10
    """
    client = Client()
    if container:
        use = client.call("GET", client.path_to("containers", container) + "/stats")
        json_or_table([use], USES, as_json=as_json)
        return
    uses = client.pages("/stats", limit=limit)
    nodes = client.pages("/nodes", limit=limit)
    if as_json:
        as_document({"nodes": nodes, "containers": uses})
        return
    if FORMAT.get() is not Format.NAME:
        json_or_table(nodes, COLUMNS, as_json=False)
    json_or_table(uses, USES, as_json=False)


def _rounded(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.2f}".rstrip("0").rstrip(".") + unit


def _ask(client: Client, method: str, what: str, done: str, node: str) -> str:
    client.call(method, client.path_to("nodes", node) + what)
    return done.format(node=node)


def _status(item: dict[str, Any]) -> str:
    if drain := item.get("drain"):
        return f"{item['status']} (draining: {drain['said']})"
    return str(item["status"]) + (" (cordoned)" if item.get("cordoned") else "")


def _gpus(item: dict[str, Any]) -> str:
    gpus = item["inventory"]["gpus"]
    if not gpus:
        return "none"
    kind = " simulated" if item["inventory"]["simulated"] else ""
    return f"{len(item.get('held', {}))}/{len(gpus)} {gpus[0]['model']}{kind}"
