"""One look at a registry's `/v2/`: does it answer, is it a registry, does it take the secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

import httpx

from pipeline.adapters.http.guarded import GuardedHttp, Limits, Reply
from pipeline.adapters.http.resolving import PlainHttp
from pipeline.adapters.registry.auth import Authorizer, RegistryScope
from pipeline.errors import (
    AddressRefused,
    InvalidReference,
    RegistryDenied,
    RegistryError,
    Unreachable,
)
from pipeline.oci import references
from pipeline.ports import Credentials
from schemas.registries.registry import ErrorKind, PingResult

LIMITS: Final = Limits(total_s=5, body_max_bytes=64 * 1024, redirects=3)


async def look(
    http: GuardedHttp, url: str, credentials: Credentials | None, *, clock: Callable[[], float]
) -> PingResult:
    """`url` is the registry's, without `/v2/`. Never raises for what the network does.

    Raises InvalidInput for a malformed URL.
    """
    asked = url.rstrip("/") + "/v2/"
    started = clock()
    heads: list[httpx.Response] = []
    try:
        reply = await http.request("GET", asked, limits=LIMITS, on_head=heads.append)
    except (AddressRefused, Unreachable) as error:
        kind = ErrorKind(error.facts.get("kind", "other"))
        if not heads:
            return PingResult(reachable=False, reason=error.message, error_kind=kind)
        # A redirect that leads nowhere, or an answer that breaks off, is an answer.
        health = _answered(heads[-1])
        health.error_kind = kind
        return health
    health = _answered(heads[-1])
    health.latency_ms = round((clock() - started) * 1000, 1)
    asks = _asks_for_proof(reply.status, reply.headers)
    # Never across a redirect: where it leads is not the server that the secret is for.
    if asks and credentials and reply.url == asked and _is_for(credentials, url):
        spare_s = max(0.1, LIMITS.total_s - (clock() - started))
        health.credentials_ok = await _prove(http, reply, asked, credentials, spare_s, clock)
    return health


def _answered(head: httpx.Response) -> PingResult:
    status = head.status_code
    return PingResult(
        reachable=True,
        status_code=status,
        reason=head.reason_phrase,
        oci=status == 200 or _asks_for_proof(status, head.headers),
        auth_required=status == 401,
    )


def _asks_for_proof(status: int, headers: httpx.Headers) -> bool:
    return status == 401 and "www-authenticate" in headers


def _is_for(credentials: Credentials, url: str) -> bool:
    """Whether the secret's server is the registry's own host."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    names = {f"{parts.hostname}:{parts.port or default}"}
    if parts.port in (None, default):
        names.add(str(parts.hostname))
    try:
        server = references.registry_host(credentials.server)
        return server in {references.registry_host(name) for name in names}
    except InvalidReference:
        return False


async def _prove(
    http: GuardedHttp,
    reply: Reply,
    asked: str,
    credentials: Credentials,
    spare_s: float,
    clock: Callable[[], float],
) -> bool | None:
    """Whether the credentials are accepted; None when that could not be found out."""
    limits = replace(LIMITS, total_s=spare_s)
    authorizer = Authorizer(http, clock=clock, limits=limits)
    access = RegistryScope(credentials.server, "", credentials)
    is_plain = asked.startswith("http:")
    try:
        header = await authorizer.answer(access, reply, sent=None, is_plain=is_plain)
        if header is None:
            return None
        again = await http.request(
            "GET",
            asked,
            headers={"Authorization": header},
            limits=limits,
            # Not in clear text across the world.
            plain=PlainHttp.LOCAL,
        )
    except (AddressRefused, RegistryError, Unreachable) as error:
        return False if isinstance(error, RegistryDenied) else None
    if again.status in (401, 403):
        return False
    return True if again.status == 200 else None
