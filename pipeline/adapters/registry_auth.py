"""Proving to a registry who asks: basic, or a token of the service that the registry names.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode
from weakref import WeakValueDictionary

from pipeline.adapters.http_guard import GuardedHttp, Limits, Reply
from pipeline.adapters.http_names import PlainHttp
from pipeline.errors import InvalidInput, RegistryError, RegistryProtocolError
from pipeline.ports import Credentials
from pipeline.rules import challenges
from pipeline.rules.bounded import Bounded
from pipeline.rules.challenges import Basic, Bearer
from pipeline.rules.registry_answers import refusal

TOKEN_S: Final = 60
"""How long a token lasts that does not say."""
TOKEN_MAX_S: Final = 3600
SPARE_S: Final = 5
"""A token that ends sooner than this is not used any more."""


@dataclass(frozen=True, slots=True)
class Access:
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


class Authorizer:
    """Remembers what each registry asks for, and tokens until they expire. Safe to share."""

    def __init__(self, http: GuardedHttp, *, clock: Callable[[], float], limits: Limits) -> None:
        self._http = http
        self._limits = limits
        self._challenges: Bounded[str, Bearer | Basic] = Bounded(1024, clock=clock)
        self._tokens: Bounded[_TokenKey, str] = Bounded(4096, clock=clock)
        self._locks: WeakValueDictionary[_TokenKey, asyncio.Lock] = WeakValueDictionary()

    async def authorization(self, access: Access, *, is_plain: bool) -> str | None:
        """The header to send without being asked, from what is known about the registry."""
        challenge = self._challenges.get(access.registry)
        if challenge is None:
            return None
        try:
            return await self._header(challenge, access, access.scope, is_plain)
        except RegistryError:
            self._challenges.forget(access.registry)
            raise

    async def answer(
        self, access: Access, reply: Reply, *, sent: str | None, is_plain: bool
    ) -> str | None:
        """The header that answers a 401, or None when there is nothing better than `sent`.

        Raises RegistryDenied when the token service refuses the credentials.
        """
        challenge = challenges.choose(reply.headers.get_list("www-authenticate"))
        if challenge is None:
            return None
        scope = access.scope
        if isinstance(challenge, Bearer):
            scope = challenge.scope or scope
            challenge = Bearer(challenge.realm, challenge.service, None)
            self._forget(challenge, access, sent)
        self._challenges[access.registry] = challenge
        header = await self._header(challenge, access, scope, is_plain)
        return None if header == sent else header

    def _forget(self, bearer: Bearer, access: Access, sent: str | None) -> None:
        # Only the refused token: another request may have fetched its successor already.
        key = _TokenKey(bearer, access.scope, access.credentials)
        if sent == f"Bearer {self._tokens.get(key)}":
            self._tokens.forget(key)

    async def _header(
        self, challenge: Bearer | Basic, access: Access, scope: str, is_plain: bool
    ) -> str | None:
        if isinstance(challenge, Bearer):
            return f"Bearer {await self._token(challenge, access, scope, is_plain)}"
        return basic(access.credentials) if access.credentials else None

    async def _token(self, bearer: Bearer, access: Access, scope: str, is_plain: bool) -> str:
        key = _TokenKey(bearer, access.scope, access.credentials)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            token = self._tokens.get(key)
            if token is None:
                token, keep_s = await self._fetch(bearer, access, scope, is_plain)
                self._tokens.put(key, token, keep_s=keep_s)
            return token

    async def _fetch(
        self, bearer: Bearer, access: Access, scope: str, is_plain: bool
    ) -> tuple[str, float]:
        if not is_plain and not bearer.realm.lower().startswith("https://"):
            raise _broken(access, "its token service is not on https")
        query = {"service": bearer.service, "scope": scope}
        url = bearer.realm + ("&" if "?" in bearer.realm else "?")
        url += urlencode({name: value for name, value in query.items() if value})
        headers = {"Authorization": basic(access.credentials)} if access.credentials else {}
        try:
            reply = await self._http.request(
                "GET", url, headers=headers, limits=self._limits, plain=PlainHttp.LOCAL
            )
        except InvalidInput as error:
            raise _broken(access, "its token service has no valid address") from error
        if reply.status != 200:
            status = 403 if reply.status in (400, 404) else reply.status
            raise refusal(
                status, reply.headers, registry=access.registry, wanted="what was asked for"
            )
        return _read(access, reply.body)


def basic(credentials: Credentials) -> str:
    """The value of `Authorization` (RFC 7617, UTF-8)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _read(access: Access, body: bytes) -> tuple[str, float]:
    """The token and how long to keep it."""
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
    return token, min(lasts, TOKEN_MAX_S) - SPARE_S


def _broken(access: Access, why: str) -> RegistryProtocolError:
    return RegistryProtocolError(
        f"{access.registry} asks for a token, but {why}.", registry=access.registry
    )
