"""How the health of a container is found out, as options of commands that start one."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from cli.client import given
from cli.console import refuse


def finite(given: float | None) -> float | None:
    if given is not None and not math.isfinite(given):
        raise typer.BadParameter(f"{given} is no amount.")
    return given


def probed(
    *,
    health_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Probed over HTTP instead of the image's own check."),
    ] = None,
    health_protocol: Annotated[
        str | None, typer.Option(help="http (default), grpc, model-rest or model-grpc.")
    ] = None,
    health_path: Annotated[str | None, typer.Option(help="Default: /; of grpc the method.")] = None,
    health_interval: Annotated[
        float | None, typer.Option(callback=finite, help="Seconds between probes; default: 10.")
    ] = None,
    health_timeout: Annotated[
        float | None, typer.Option(callback=finite, help="Seconds for an answer; default: 5.")
    ] = None,
    health_retries: Annotated[
        int | None, typer.Option(help="Failures in a row that count; default: 3.")
    ] = None,
    health_start_period: Annotated[
        float | None, typer.Option(callback=finite, help="Seconds without count; default: 30.")
    ] = None,
    health_until_ready: Annotated[
        bool | None, typer.Option("--health-until-ready", help="Stop at the first success.")
    ] = None,
) -> dict[str, Any]:
    """How its health is found out."""
    probe = given(
        port=health_port,
        protocol=health_protocol,
        path=health_path,
        interval_s=health_interval,
        timeout_s=health_timeout,
        retries=health_retries,
        start_period_s=health_start_period,
        until_ready=health_until_ready,
    )
    if probe and health_port is None:
        refuse("--health-port is missing:", "a probe needs it.")
    return {"health": probe} if probe else {}
