"""Proving to a registry who asks: basic, or a token of the service that the registry names.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlencode

from cachetools import LRUCache, TLRUCache

from pipeline.adapters.http.guarded import GuardedHttp, Limits, Reply
from pipeline.adapters.http.resolving import PlainHttp
from pipeline.adapters.registry.responses import (
    Basic,
    Bearer,
    choose_challenge,
    no_answer,
    refusal,
    uncompressed,
)
from pipeline.concurrency import KeyedLocks
from pipeline.errors import InvalidInput, RegistryError, RegistryProtocolError
from pipeline.ports import Credentials

TOKEN_S: Final = 60
"""How long a token lasts that does not say."""
TOKEN_MAX_S: Final = 3600
SPARE_S: Final = 5
"""A token that ends sooner than this is not used any more."""


@dataclass(frozen=True, slots=True)
class RegistryScope:
    """What is asked of whom, and as whom. `credentials` are those for `registry`, or None."""

    registry: str
    scope: str
    """For instance `repository:team/model:pull`."""
    credentials: Credentials | None


@dataclass(frozen=True, slots=True)
class _TokenKey:
    bearer: Bearer
    scope: str
    credentials: Credentials | None


class _Token(NamedTuple):
    text: str
    keep_s: float


class Authorizer:
    """Remembers what each registry asks for, and tokens until they expire. Safe to share."""

    def __init__(self, http: GuardedHttp, *, clock: Callable[[], float], limits: Limits) -> None:
        self._http = http
        self._limits = limits
        self._challenges: LRUCache[str, Bearer | Basic] = LRUCache(1024)
        self._tokens: TLRUCache[_TokenKey, _Token] = TLRUCache(4096, _ends_at, clock)
        self._fetching = KeyedLocks()

    async def authorization(self, access: RegistryScope, *, is_plain: bool) -> str | None:
        """The header to send without being asked, from what is known about the registry."""
        if access.credentials is not None and access.credentials.token:
            return f"Bearer {access.credentials.token}"
        challenge = self._challenges.get(access.registry)
        if challenge is None:
            return None
        try:
            return await self._header(challenge, access, access.scope, is_plain)
        except RegistryError:
            self._challenges.pop(access.registry, None)
            raise

    async def answer(
        self, access: RegistryScope, reply: Reply, *, sent: str | None, is_plain: bool
    ) -> str | None:
        """The header that answers a 401, or None when there is nothing better than `sent`.

        Raises RegistryDenied when the token service refuses the credentials.
        """
        challenge = choose_challenge(reply.headers.get_list("www-authenticate"))
        if challenge is None or (access.credentials is not None and access.credentials.token):
            return None
        scope = access.scope
        if isinstance(challenge, Bearer):
            scope = challenge.scope or scope
            challenge = Bearer(challenge.realm, challenge.service, None)
            self._forget(challenge, access, sent)
        self._challenges[access.registry] = challenge
        header = await self._header(challenge, access, scope, is_plain)
        return None if header == sent else header

    def _forget(self, bearer: Bearer, access: RegistryScope, sent: str | None) -> None:
        # Only the refused token: another request may have fetched its successor already.
        key = _TokenKey(bearer, access.scope, access.credentials)
        known = self._tokens.get(key)
        if known is not None and sent == f"Bearer {known.text}":
            self._tokens.pop(key, None)

    async def _header(
        self, challenge: Bearer | Basic, access: RegistryScope, scope: str, is_plain: bool
    ) -> str | None:
        if isinstance(challenge, Bearer):
            return f"Bearer {await self._token(challenge, access, scope, is_plain)}"
        return basic(access.credentials) if access.credentials else None

    async def _token(
        self, bearer: Bearer, access: RegistryScope, scope: str, is_plain: bool
    ) -> str:
        key = _TokenKey(bearer, access.scope, access.credentials)
        async with self._fetching.of(key):
            token = self._tokens.get(key)
            if token is None:
                token = self._tokens[key] = await self._fetch(bearer, access, scope, is_plain)
            return token.text

    async def _fetch(
        self, bearer: Bearer, access: RegistryScope, scope: str, is_plain: bool
    ) -> _Token:
        if not is_plain and not bearer.realm.lower().startswith("https://"):
            raise _broken(access, "its token service is not on https")
        query = {"service": bearer.service, "scope": scope}
        url = bearer.realm + ("&" if "?" in bearer.realm else "?")
        url += urlencode({name: value for name, value in query.items() if value})
        headers = {"Authorization": basic(access.credentials)} if access.credentials else {}
        try:
            with no_answer():
                reply = await self._http.request(
                    "GET", url, headers=headers, limits=self._limits, plain=PlainHttp.LOCAL
                )
        except InvalidInput as error:
            raise _broken(access, "its token service has no valid address") from error
        if reply.status != 200:
            status = 403 if reply.status in (400, 404) else reply.status
            refused = refusal(
                status, reply.headers, registry=access.registry, wanted="what was asked for"
            )
            # Whoever proves himself and gets no token at all is not let in.
            refused.facts["is_login"] = bool(headers) and reply.status in (401, 403)
            raise refused
        most = self._limits.body_max_bytes
        body = uncompressed(reply.headers, reply.body, most, registry=access.registry)
        return _read(access, body)


def basic(credentials: Credentials) -> str:
    """The value of `Authorization` (RFC 7617, UTF-8)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _ends_at(key: _TokenKey, token: _Token, now: float) -> float:
    return now + token.keep_s


def _read(access: RegistryScope, body: bytes) -> _Token:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _broken(access, "its token service does not answer with a JSON object")
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise _broken(access, "its token service answers without a token")
    lasts = answer.get("expires_in", TOKEN_S)
    if not isinstance(lasts, int | float) or not lasts > 0:
        lasts = TOKEN_S
    return _Token(token, min(lasts, TOKEN_MAX_S) - SPARE_S)


def _broken(access: RegistryScope, why: str) -> RegistryProtocolError:
    return RegistryProtocolError(
        f"{access.registry} asks for a token, but {why}.", registry=access.registry
    )
