"""One record, read through the short absences of a server that restarts."""

from __future__ import annotations

import time
from typing import Any

import httpx

from cli import client as patience
from cli.client import Client


def read_record(client: Client, path: str) -> dict[str, Any]:
    """What is at `path` of the API. Exits when the server refuses, or stays away as for events."""
    for attempt in range(patience.RECONNECTIONS):
        try:
            answer = client.http.get(f"/yard/v1{path}")
            if answer.status_code not in (502, 503, 504):
                client.require(answer)
                return client.decode(answer)
        except httpx.TransportError:
            if attempt == 0:
                patience.say(patience.err, ("connection lost, resuming…", "yellow"))
        time.sleep(min(patience.PAUSE_S * 2**attempt, patience.LONGEST_PAUSE_S))
    last: dict[str, Any] = client.call("GET", path)
    return last
