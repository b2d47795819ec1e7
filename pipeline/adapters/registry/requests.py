"""Single requests to registries: the right scheme, the right credentials, one retry after a 401."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from cachetools import TTLCache

from pipeline.adapters.http import faults
from pipeline.adapters.http.guarded import GuardedHttp, Limits, Reply
from pipeline.adapters.http.resolving import PlainHttp
from pipeline.adapters.registry.auth import Authorizer, RegistryScope
from pipeline.adapters.registry.responses import no_answer, uncompressed
from pipeline.errors import AddressRefused, RegistryUnavailable

Scheme = Literal["https", "http"]
Method = Literal["GET", "HEAD"]

SCHEME_S: Final = 3600
"""How long the scheme that a registry answered on is not looked for again."""


@dataclass(frozen=True, slots=True)
class _Request:
    access: RegistryScope
    method: Method
    path: str
    headers: Mapping[str, str]
    limits: Limits


class RegistryCalls:
    """Safe to share. Raises AddressRefused, RegistryUnavailable and what `Authorizer` raises."""

    def __init__(self, http: GuardedHttp, *, clock: Callable[[], float], request_s: float) -> None:
        self._http = http
        self._request_s = request_s
        self._auth = Authorizer(
            http, clock=clock, limits=Limits(total_s=request_s, body_max_bytes=256 * 1024)
        )
        self._schemes: TTLCache[str, Scheme] = TTLCache(4096, SCHEME_S, clock)

    async def ask(
        self,
        access: RegistryScope,
        method: Method,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body_max_bytes: int = 64 * 1024,
        scheme: Scheme | None = None,
    ) -> Reply:
        """The answer of any status; 401 only when there was nothing (better) to prove with.

        `path` is from the root, with its query. Without `scheme` it is found out; plain http is
        refused where it is not allowed all the same.
        """
        limits = Limits(total_s=self._request_s, body_max_bytes=body_max_bytes)
        request = _Request(access, method, path, headers or {}, limits)
        known = scheme or self._schemes.get(access.registry)
        asked = self._discover(request) if known is None else self._again(known, request)
        reply = await asked
        if reply.status == 206 or reply.is_truncated:
            return reply
        body = uncompressed(reply.headers, reply.body, body_max_bytes, registry=access.registry)
        is_truncated = len(body) > body_max_bytes
        return replace(reply, body=body[:body_max_bytes], is_truncated=is_truncated)

    def place(self, registry: str) -> str:
        """`host:port`, by the scheme that it answered on, HTTPS before it ever did."""
        return faults.place_of(registry, self._schemes.get(registry, "https"))

    async def _again(self, known: Scheme, request: _Request) -> Reply:
        """On the scheme that it answered on before."""
        access = request.access
        try:
            reply = await self._ask(known, request)
        except RegistryUnavailable as error:
            # It may speak the other one by now.
            if error.facts.get("kind") in ("tls", "refused", "protocol"):
                self._schemes.pop(access.registry, None)
            raise
        if known == "http" and reply.status == 400:
            # What a server says that was spoken to plainly and expects TLS.
            self._schemes.pop(access.registry, None)
        return reply

    async def _discover(self, request: _Request) -> Reply:
        """https, and plain http only where that is allowed and nobody speaks TLS."""
        try:
            reply = await self._ask("https", request)
            scheme: Scheme = "https"
        except RegistryUnavailable as error:
            if not _lacks_tls(error):
                raise
            try:
                reply = await self._ask("http", request)
            except AddressRefused:
                raise error from None
            scheme = "http"
        self._schemes[request.access.registry] = scheme
        return reply

    async def _ask(self, scheme: Scheme, request: _Request) -> Reply:
        access, is_plain = request.access, scheme == "http"
        proof = await self._auth.authorization(access, is_plain=is_plain)
        is_answered = False
        while True:
            with no_answer():
                reply = await self._http.request(
                    request.method,
                    f"{scheme}://{access.registry}{request.path}",
                    headers={**request.headers, **({"Authorization": proof} if proof else {})},
                    limits=request.limits,
                    plain=PlainHttp.LOCAL,
                )
            # A 401 of somebody else, met by a redirect, asks for proof that is not theirs to have.
            if is_answered or reply.status != 401 or reply.is_foreign:
                return reply
            better = await self._auth.answer(access, reply, sent=proof, is_plain=is_plain)
            if better is None:
                return reply
            proof, is_answered = better, True


def _lacks_tls(error: RegistryUnavailable) -> bool:
    """The registry itself, not one that it redirects to, does not speak TLS at all.

    A certificate that cannot be trusted is TLS: falling back would help whoever forged it.
    """
    facts = error.facts
    is_first_hop = "status" not in facts
    return (
        is_first_hop
        and facts.get("kind") in ("tls", "refused")
        and not facts.get("has_bad_certificate")
    )
