"""What can be found out about programs, files and clocks, each as a finding with its remedy."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from cryptography import x509

from pipeline.stack.state import State

VERSION_OPTIONS: Mapping[str, str] = {"haproxy": "-v", "ip": "-V"}
"""Of programs that do not know `--version`."""
VERSION_TIMEOUT_S = 10
SKEW_S = 5.0
"""Tokens bear that much, and times of events are still told apart from those of another minute."""
WARNED_DAYS = 21


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do; empty when it is fine."""


async def version(name: str, path: str) -> str:
    """The first line of what a program says of itself; empty when it says nothing in time."""
    option = VERSION_OPTIONS.get(name, "--version")
    try:
        process = await asyncio.create_subprocess_exec(
            path, option, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(VERSION_TIMEOUT_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return said.decode(errors="replace").strip().partition("\n")[0]


def private_files(state: State) -> list[Finding]:
    """Whether files with credentials are their owner's alone."""
    found = []
    for file in (state.env_file, state.piece("nats") / "nats.conf"):
        if file.is_file():
            mode = file.stat().st_mode & 0o777
            remedy = f"Run: chmod 600 {file}" if mode & 0o077 else ""
            found.append(Finding(f"mode of {file.name}", not remedy, f"{mode:04o}", remedy))
    return found


def fsync(state: State) -> list[Finding]:
    """Whether the stack's own broker writes to disk before it acknowledges."""
    file = state.piece("nats") / "nats.conf"
    if not file.is_file() or not os.access(file, os.R_OK):
        return []
    interval = json.loads(file.read_text()).get("jetstream", {}).get("sync_interval")
    ok = interval == "always"
    remedy = "" if ok else f"Set jetstream.sync_interval to always in {file}, and start it anew."
    return [Finding("sync_interval", ok, str(interval or "2m, the server's default"), remedy)]


def clock(name: str, date: str, now: datetime) -> Finding:
    """How far the clock of whoever sent this `Date` is from ours; it has no parts of a second."""
    try:
        skew_s = abs((parsedate_to_datetime(date) - now).total_seconds())
    except (TypeError, ValueError):
        return Finding(f"clock of {name}", False, "it does not tell its time", "Look at its proxy.")
    ok = skew_s < SKEW_S
    remedy = "" if ok else "Keep both clocks by NTP: tokens and timeouts go by them."
    return Finding(f"clock of {name}", ok, f"differs by less than {skew_s + 1:.0f} s", remedy)


async def certificate(url: str, now: datetime) -> list[Finding]:
    """Until when the certificate at this address is good; nothing for plain HTTP."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname is None:
        return []
    where = (parts.hostname, parts.port or 443)
    name = f"certificate of {parts.hostname}"
    try:
        text = await asyncio.to_thread(ssl.get_server_certificate, where, timeout=5)
    except OSError as error:
        return [Finding(name, False, str(error), "Does it speak TLS there?")]
    return [dated(name, text, now)]


def dated(name: str, pem: str, now: datetime) -> Finding:
    """Whether a certificate is good now and for three weeks more."""
    read = x509.load_pem_x509_certificate(pem.encode())
    ends, begins = read.not_valid_after_utc, read.not_valid_before_utc
    detail = f"until {ends:%Y-%m-%d}, {(ends - now).days} days"
    if now < begins:
        remedy = f"It is good from {begins:%Y-%m-%d}: look at the clock of this machine."
    elif (ends - now).days < WARNED_DAYS:
        remedy = "Renew it now: clients refuse it afterwards."
    else:
        return Finding(name, True, detail)
    return Finding(name, False, detail, remedy)


def now() -> datetime:
    return datetime.now(UTC)
