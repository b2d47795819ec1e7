"""What `modelyard doctor` finds out about a server that is not the stack of this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from cli.client import Client
from cli.credentials import Origin, find_choice

if TYPE_CHECKING:
    from pipeline.stack.diagnosis import Finding


def examine_server() -> list[Finding]:
    """Of the server in use: its dependencies, the login there, its clock and its certificate.

    Nothing when commands go to the stack of this folder, which is looked at anyway.
    """
    choice = find_choice()
    if choice.origin in (Origin.STACK, Origin.DEFAULT):
        return []
    # It loads what only this needs.
    from pipeline.stack.diagnosis import Finding, certificate, clock, now

    client = Client("", choice.server)
    name = choice.context or choice.server.shown
    found = asyncio.run(certificate(choice.server.url, now()))
    try:
        answer = client.answer("GET", "/healthz")
        found.append(clock(name, answer.headers.get("date", ""), now()))
    except typer.Exit:
        return [*found, Finding(f"server {name}", False, "does not answer", "See above.")]
    for path, what, remedy in (
        ("/readyz", "dependencies", "Look at it there: modelyard doctor"),
        ("/yard/v1/me", "login", "Log in: modelyard login"),
    ):
        try:
            client.answer("GET", path)
            found.append(Finding(f"{what} of {name}", True, "fine"))
        except typer.Exit:
            found.append(Finding(f"{what} of {name}", False, "see above", remedy))
    return found
