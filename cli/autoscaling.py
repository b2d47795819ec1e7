"""What the command line writes about autoscaling: options become a rule, a rule becomes words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import echo, err, out, refuse

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", help="METRIC=VALUE, like concurrency=4, gpu=80 or latency.p95=200 (ms)."
    ),
]
Schedules = Annotated[
    list[str] | None,
    typer.Option(
        "--schedule",
        help="ZONE;START;END;REPLICAS, like 'Europe/Berlin;0 8 * * 1-5;0 18 * * 1-5;3'.",
    ),
]
Rule = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="A file with the whole rule, as JSON."),
]
ScaleToZero = Annotated[
    bool | None, typer.Option(help="End also the last replica when nobody calls.")
]
Cooldown = Annotated[
    int | None, typer.Option(min=0, help="Seconds without a call, before the last replica ends.")
]
Wait = Annotated[int | None, typer.Option(min=0, help="Seconds in which all looks must agree.")]
Steps = Annotated[
    list[str] | None, typer.Option(help="AMOUNT/SECONDS, like 4/15 or 50%/60: no faster.")
]


def rule(
    known: Mapping[str, Any] | None,
    *,
    targets: list[str] | None = None,
    schedules: list[str] | None = None,
    file: Path | None = None,
    **plain: Any,
) -> dict[str, Any]:
    """`known` with what is given in its place; empty when nothing is. Exits for what has no form.

    `plain` are values of the rule by name, also `scale_up` and `scale_down`.
    """
    made: dict[str, Any] = dict(known or {})
    if file is not None:
        made = _read(file)
    if targets is not None:
        made["targets"] = [_target(each) for each in targets]
    if schedules is not None:
        made["schedules"] = [_schedule(each) for each in schedules]
    for name, value in plain.items():
        if isinstance(value, dict):
            made[name] = {**made.get(name, {}), **value}
        elif value is not None:
            made[name] = value
    return made


def behavior(wait_s: int | None, steps: list[str] | None) -> dict[str, Any] | None:
    """What is given of one direction; None when nothing is."""
    given: dict[str, Any] = {} if wait_s is None else {"stabilization_s": wait_s}
    if steps is not None:
        given["steps"] = [_step(each) for each in steps]
    return given or None


def is_automatic(deployment: Mapping[str, Any]) -> bool:
    """The number is not its owner's to set."""
    policy = deployment["autoscale"]
    return bool(policy and (policy["targets"] or policy["schedules"]))


def show(deployment: Mapping[str, Any], look: Mapping[str, Any] | None) -> None:
    """Rule, figures and last change, in sentences."""
    policy = deployment["autoscale"]
    if not is_automatic(deployment):
        echo(err, f"{deployment['name']} is scaled by hand: modelyard deployments scale.")
        return
    echo(
        out,
        f"{deployment['replicas']} replicas, {deployment['ready']} ready,"
        f" from {deployment['min_replicas']} to {deployment['max_replicas']}",
    )
    for each in look["figures"] if look else ():
        name = f"{each['metric']} p{each['percentile']}" if each["percentile"] else each["metric"]
        value = "unknown" if each["value"] is None else f"{each['value']:g}"
        wants = "" if each["replicas"] is None else f": wants {each['replicas']}"
        echo(out, f"{name} is {value}, its target {each['target']:g}{wants}")
    for each in policy["schedules"]:
        echo(
            out,
            f"at least {each['replicas']} from {each['start']} to {each['end']}"
            f" ({each['timezone']})",
        )
    if look:
        echo(out, f"now: {look['replicas']} wanted, {look['why']}")
    if last := deployment["scaling"]:
        echo(out, f"last change: to {last['replicas']} at {last['at']}, {last['why']}")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        refuse(f"{file} holds no JSON", f": {error}")
    if not isinstance(found, dict):
        refuse(f"{file} holds no rule:", "it must be one JSON object.")
    return found


def _target(text: str) -> dict[str, Any]:
    name, _, value = text.partition("=")
    metric, _, percentile = name.partition(".p")
    try:
        made: dict[str, Any] = {"metric": metric, "value": float(value)}
        return made | ({"percentile": int(percentile)} if percentile else {})
    except ValueError:
        refuse(f"{text!r} is no target:", "write it like concurrency=4 or latency.p95=200.")


def _schedule(text: str) -> dict[str, Any]:
    parts = [part.strip() for part in text.split(";")]
    try:
        zone, start, end, replicas = parts if len(parts) > 3 else [*parts, "1"]
        return {"timezone": zone, "start": start, "end": end, "replicas": int(replicas)}
    except ValueError:
        refuse(
            f"{text!r} is no schedule:", "write it like 'Europe/Berlin;0 8 * * 1-5;0 18 * * 1-5;3'."
        )


def _step(text: str) -> dict[str, Any]:
    amount, _, period_s = text.partition("/")
    kind = "percent" if amount.endswith("%") else "replicas"
    try:
        return {"kind": kind, "value": int(amount.rstrip("%")), "period_s": int(period_s)}
    except ValueError:
        refuse(f"{text!r} is no step:", "write it like 4/15 or 50%/60.")
