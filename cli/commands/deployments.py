"""`modelyard deployments`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from cli import autoscaling
from cli.client import Client, Named, SeveralNamed, given
from cli.commands.run import Annotation, Timeout, is_silent, pairs, with_launch_options
from cli.console import (
    FAILED,
    ID,
    AsJson,
    AsJsonOrTable,
    Column,
    Limit,
    OnlyJson,
    Wide,
    age,
    as_document,
    echo,
    err,
    field,
    for_each,
    json_or_row,
    json_or_table,
    refuse,
    short_id,
)
from cli.probes import finite
from cli.progress import follow

app = typer.Typer(no_args_is_help=True, help="Keep replicas of images answering.")

ENDS = {"DEPLOYED", "FAILED", "SCALED_DOWN", "DELETED"}
COLUMNS: list[Column] = [
    (ID, short_id),
    ("NAME", field("name")),
    ("STATUS", field("status")),
    ("READY", lambda item: f"{item['ready']}/{item['replicas']}"),
    ("REPLICAS", lambda item: f"{item['min_replicas']}–{item['max_replicas']}"),
    ("TEMPLATE", field("template.generation")),
    ("IMAGE", Wide(field("template.spec.image"))),
    ("ENDPOINT", Wide(field("endpoint"))),
    ("CREATED", Wide(field("created_at"))),
    ("AGE", age("created_at")),
    ("REASON", field("reason")),
]
Least = Annotated[int | None, typer.Option("--min", min=0, help="Replicas at least.")]
Most = Annotated[int | None, typer.Option("--max", min=1, help="Replicas at most.")]
Idle = Annotated[
    float | None,
    typer.Option(min=1, help="Seconds without a call after which they end, with --min 0."),
]
InPlace = Annotated[
    bool | None, typer.Option(help="End an old replica first where a new one has no room.")
]
MaxCalls = Annotated[
    int | None,
    typer.Option(min=0, help="Calls that a replica gets at once, more wait; 0: as many as come."),
]
Drain = Annotated[
    float | None,
    typer.Option(
        min=0, max=3600, callback=finite, help="Seconds for the calls of a replica that is to end."
    ),
]
RolloutTimeout = Annotated[
    int | None,
    typer.Option(min=10, max=86400, help="Seconds to be ready in, else the last good one returns."),
]
Command = Annotated[list[str] | None, typer.Argument(help="Instead of the image's own.")]
Waiting = Annotated[bool, typer.Option(help="Wait until its replicas are ready or cannot be.")]


@app.command()
@with_launch_options
def create(
    launch: dict[str, Any],
    name: str,
    image: str,
    command: Command = None,
    replicas_min: Least = 1,
    replicas_max: Most = None,
    idle_s: Idle = None,
    in_place: InPlace = None,
    max_calls: MaxCalls = None,
    drain: Drain = None,
    rollout_timeout: RolloutTimeout = None,
    annotation: Annotation = None,
    target: autoscaling.Targets = None,
    schedule: autoscaling.Schedules = None,
    wait: Waiting = True,
    timeout: Timeout = None,
    as_json: AsJsonOrTable = False,
) -> None:
    """Keep replicas of an image answering: what ends is replaced, an edit rolls.

    For instance: modelyard deployments create chat model --min 2 --max 4 --target concurrency=4
    """
    rule = autoscaling.rule(None, targets=target, schedules=schedule)
    client = Client()
    spec = given(
        name=name,
        template=_template(image, command, launch),
        min_replicas=replicas_min,
        max_replicas=max(replicas_max or 1, replicas_min or 1),
        idle_s=idle_s,
        in_place=in_place,
        max_calls=max_calls,
        drain_s=drain,
        rollout_timeout_s=rollout_timeout,
        annotations=pairs(annotation) or None,
        autoscale=rule or None,
    )
    _end(client, client.call("POST", "/deployments", json=spec), wait, timeout, as_json)


@app.command()
@with_launch_options
def edit(
    launch: dict[str, Any],
    deployment: Named,
    command: Command = None,
    name: Annotated[str | None, typer.Option(help="Its address changes with it.")] = None,
    image: Annotated[str | None, typer.Option(help="Roll this one out.")] = None,
    replicas_min: Least = None,
    replicas_max: Most = None,
    idle_s: Idle = None,
    in_place: InPlace = None,
    max_calls: MaxCalls = None,
    drain: Drain = None,
    rollout_timeout: RolloutTimeout = None,
    annotation: Annotation = None,
    wait: Waiting = True,
    timeout: Timeout = None,
    as_json: AsJsonOrTable = False,
) -> None:
    """Change what is given. Options of a container belong to the image that is named with them.

    For instance: modelyard deployments edit chat --image model:2
    """
    if image is None and (command or not is_silent(launch)):
        refuse("--image is missing:", "command and options of a container go with it.")
    body = given(
        name=name,
        template=None if image is None else _template(image, command, launch),
        min_replicas=replicas_min,
        max_replicas=replicas_max,
        idle_s=idle_s,
        in_place=in_place,
        max_calls=max_calls,
        drain_s=drain,
        rollout_timeout_s=rollout_timeout,
        annotations=pairs(annotation) or None,
    )
    if not body:
        refuse("Nothing to change.", "Give --image, or another option of those in --help.")
    client = Client()
    path = client.path_to("deployments", deployment)
    _end(client, client.call("PATCH", path, json=body), wait, timeout, as_json)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    limit: Limit = 50,
    as_json: AsJsonOrTable = False,
) -> None:
    """Newest first.

    For instance: modelyard deployments list
    """
    found = Client().pages("/deployments", limit=limit, status=status)
    json_or_table(found, COLUMNS, as_json=as_json)


@app.command()
def show(deployment: Named, as_json: AsJson = False) -> None:
    """Everything that is known about one deployment.

    For instance: modelyard deployments show chat
    """
    client = Client()
    json_or_row(client.call("GET", client.path_to("deployments", deployment)), COLUMNS)


@app.command()
def scale(
    deployment: Named,
    replicas: Annotated[int, typer.Argument(min=0)],
    wait: Waiting = True,
    timeout: Timeout = None,
    as_json: AsJsonOrTable = False,
) -> None:
    """Want so many replicas now, within the deployment's bounds.

    For instance: modelyard scale chat 3
    """
    client = Client()
    path = client.path_to("deployments", deployment)
    asked = client.call("POST", f"{path}/scale", json={"replicas": replicas})
    _end(client, asked, wait, timeout, as_json)


@app.command()
def autoscale(
    deployment: Named,
    target: autoscaling.Targets = None,
    schedule: autoscaling.Schedules = None,
    replicas_min: Least = None,
    replicas_max: Most = None,
    scale_to_zero: autoscaling.ScaleToZero = None,
    cooldown: autoscaling.Cooldown = None,
    up_wait: autoscaling.Wait = None,
    up_step: autoscaling.Steps = None,
    down_wait: autoscaling.Wait = None,
    down_step: autoscaling.Steps = None,
    rule: autoscaling.Rule = None,
    off: Annotated[bool, typer.Option("--off", help="The number is set by hand again.")] = False,
    as_json: OnlyJson = False,
) -> None:
    """Let the number of replicas follow the load, or the clock. Without options: what it does.

    For instance: modelyard deployments autoscale chat --target concurrency=4 --max 8
    """
    client = Client()
    path = client.path_to("deployments", deployment)
    record = client.call("GET", path)
    made = autoscaling.rule(
        record["autoscale"],
        targets=target,
        schedules=schedule,
        file=rule,
        scale_to_zero=scale_to_zero,
        cooldown_s=cooldown,
        scale_up=autoscaling.behavior(up_wait, up_step),
        scale_down=autoscaling.behavior(down_wait, down_step),
    )
    body = given(
        autoscale={} if off else made if made != (record["autoscale"] or {}) else None,
        min_replicas=replicas_min,
        max_replicas=replicas_max,
    )
    if body:
        record = client.call("PATCH", path, json=body)
    look = client.call("GET", f"{path}/scaling") if autoscaling.is_automatic(record) else None
    if as_json:
        shown = {name: record[name] for name in ("autoscale", "scaling", "scalings")}
        as_document(shown | {"look": look})
    else:
        autoscaling.show(record, look)


@app.command()
def rollback(
    deployment: Named,
    to: Annotated[
        int | None, typer.Option(min=1, help="Generation of a template; default: the one before.")
    ] = None,
    wait: Waiting = True,
    timeout: Timeout = None,
    as_json: AsJsonOrTable = False,
) -> None:
    """Return to an earlier template, which rolls out like an edit.

    For instance: modelyard rollback chat
    """
    client = Client()
    path = client.path_to("deployments", deployment)
    asked = client.call("POST", f"{path}/rollback", json={"generation": to})
    _end(client, asked, wait, timeout, as_json)


@app.command()
def start(deployments: SeveralNamed) -> None:
    """Want their replicas again, and wait for them.

    For instance: modelyard deployments start chat
    """
    for_each(deployments, partial(_ask, Client(), "POST", "/start"))


@app.command()
def stop(deployments: SeveralNamed) -> None:
    """Want no replicas until it is started.

    For instance: modelyard deployments stop chat
    """
    for_each(deployments, partial(_ask, Client(), "POST", "/stop"))


@app.command()
def restart(deployments: SeveralNamed) -> None:
    """Make all replicas anew, one after the other.

    For instance: modelyard deployments restart chat
    """
    for_each(deployments, partial(_ask, Client(), "POST", "/restart"))


@app.command()
def delete(deployments: SeveralNamed) -> None:
    """End their replicas, then the deployments themselves.

    For instance: modelyard deployments delete chat
    """
    for_each(deployments, partial(_ask, Client(), "DELETE", ""))


def _template(image: str, command: list[str] | None, launch: dict[str, Any]) -> dict[str, Any]:
    return {"image": image, "command": command or [], **launch}


def _ask(client: Client, method: str, verb: str, deployment: str) -> str:
    path = client.path_to("deployments", deployment) + verb
    record = follow(client, "deployments", client.call(method, path), until=ENDS)
    if record["status"] == "FAILED":
        refuse(f"It is FAILED: {record['reason']}", code=FAILED)
    return str(record["status"]).lower().replace("_", " ")


def _end(
    client: Client, record: dict[str, Any], wait: bool, timeout_s: float | None, as_json: bool
) -> None:
    """Follow it to its end, show it, and fail when it has."""
    if wait:
        record = follow(client, "deployments", record, until=ENDS, timeout_s=timeout_s)
    if as_json:
        as_document(record)
    else:
        json_or_table([record], COLUMNS, as_json=False)
    if wait and record["status"] not in ENDS:
        echo(err, f"It is still {record['status']} and goes on without us: {record['reason']}")
    if wait and record["status"] not in ENDS - {"FAILED"}:
        raise typer.Exit(FAILED)
