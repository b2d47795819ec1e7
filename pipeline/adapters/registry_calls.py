"""Single requests to registries: the right scheme, the right credentials, one retry after a 401."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

from pipeline.adapters.http_guard import GuardedHttp, Limits, Reply
from pipeline.adapters.http_names import PlainHttp
from pipeline.adapters.registry_auth import Access, Authorizer
from pipeline.errors import AddressRefused, RegistryUnavailable
from pipeline.rules.bounded import Bounded

Scheme = Literal["https", "http"]
Method = Literal["GET", "HEAD"]

SCHEME_S: Final = 3600
"""How long the scheme that a registry answered on is not looked for again."""


class RegistryCalls:
    """Safe to share. Raises AddressRefused, RegistryUnavailable and what `Authorizer` raises."""

    def __init__(self, http: GuardedHttp, *, clock: Callable[[], float], request_s: float) -> None:
        self._http = http
        self._request_s = request_s
        self._auth = Authorizer(
            http, clock=clock, limits=Limits(total_s=request_s, body_max_bytes=256 * 1024)
        )
        self._schemes: Bounded[str, Scheme] = Bounded(4096, clock=clock, keep_s=SCHEME_S)

    async def ask(
        self,
        access: Access,
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
        known = scheme or self._schemes.get(access.registry)
        if known is None:
            return await self._discover(access, method, path, headers or {}, limits)
        try:
            reply = await self._ask(known, access, method, path, headers or {}, limits)
        except RegistryUnavailable as error:
            # It may speak the other one by now.
            if error.facts.get("kind") in ("tls", "refused", "protocol"):
                self._schemes.forget(access.registry)
            raise
        if known == "http" and reply.status == 400:
            # What a server says that was spoken to plainly and expects TLS.
            self._schemes.forget(access.registry)
        return reply

    async def _discover(
        self,
        access: Access,
        method: Method,
        path: str,
        headers: Mapping[str, str],
        limits: Limits,
    ) -> Reply:
        """https, and plain http only where that is allowed and nobody speaks TLS."""
        try:
            reply = await self._ask("https", access, method, path, headers, limits)
            scheme: Scheme = "https"
        except RegistryUnavailable as error:
            if not _lacks_tls(error):
                raise
            try:
                reply = await self._ask("http", access, method, path, headers, limits)
            except AddressRefused:
                raise error from None
            scheme = "http"
        self._schemes[access.registry] = scheme
        return reply

    async def _ask(
        self,
        scheme: Scheme,
        access: Access,
        method: Method,
        path: str,
        headers: Mapping[str, str],
        limits: Limits,
    ) -> Reply:
        is_plain = scheme == "http"
        url = f"{scheme}://{access.registry}{path}"
        sent = await self._auth.authorization(access, is_plain=is_plain)
        reply = await self._send(method, url, headers, sent, limits)
        # A 401 of somebody else, met by a redirect, asks for proof that is not theirs to have.
        if reply.status != 401 or reply.is_foreign:
            return reply
        better = await self._auth.answer(access, reply, sent=sent, is_plain=is_plain)
        if better is None:
            return reply
        return await self._send(method, url, headers, better, limits)

    async def _send(
        self,
        method: Method,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        limits: Limits,
    ) -> Reply:
        proof = {"Authorization": authorization} if authorization else {}
        return await self._http.request(
            method, url, headers={**headers, **proof}, limits=limits, plain=PlainHttp.LOCAL
        )


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
