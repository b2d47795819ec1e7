"""`modelyard nodes`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.client import Client
from cli.named import Named, uuid_of
from cli.show import age, as_document, field, json_or_table, size

app = typer.Typer(no_args_is_help=True, help="The machines that run containers.")

COLUMNS = [
    ("ID", field("uuid")),
    ("NAME", field("name")),
    ("STATUS", field("status")),
    ("GPUS", lambda item: _gpus(item)),
    ("CPUS", field("inventory.cpus")),
    ("MEMORY", size("inventory.memory_bytes")),
    ("ENGINE", field("inventory.engine_version")),
    ("BEAT", age("last_heartbeat")),
    ("REASON", field("reason")),
]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Nodes with their GPUs, used and in total."""
    json_or_table(Client().pages("/nodes", limit=limit), COLUMNS, as_json=as_json)


@app.command()
def show(node: Named) -> None:
    """Everything that is known about one node."""
    client = Client()
    uuid = uuid_of(client, "nodes", node)
    as_document(client.call("GET", f"/nodes/{uuid}"))


def _gpus(item: dict[str, Any]) -> str:
    gpus = item["inventory"]["gpus"]
    if not gpus:
        return "none"
    kind = " simulated" if item["inventory"]["simulated"] else ""
    return f"{len(item.get('held', {}))}/{len(gpus)} {gpus[0]['model']}{kind}"
