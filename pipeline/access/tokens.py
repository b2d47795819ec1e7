"""Tokens that somebody asked for, how API keys are recognised, and what is revoked."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from cachetools import TTLCache

from pipeline.access import roles
from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.concurrency import KeyedLocks
from pipeline.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Clock, Records
from pipeline.records.messages import event
from pipeline.records.queries import Page, page
from pipeline.records.revoked import Revoked, revoked
from schemas.access import Permission, Principal, Role, Token
from schemas.organisation import Organisation
from schemas.states import OrganisationStatus

Kind = Literal["api-key", "jwt"]
KINDS: Final = get_args(Kind)

NAME_MAX: Final = 255
TTL_MAX_S: Final = 10 * 365 * 86_400
JWT_TTL_S: Final = 30 * 86_400
"""Of a JWT for which no time was asked: every JWT ends."""
SECRET_BYTES: Final = 24
REMEMBERED: Final = 10_000
"""API keys."""
MAX_AGE: Final = timedelta(seconds=5)
"""How long a revocation by another process may go unnoticed, should its event be lost."""


@dataclass(frozen=True, slots=True)
class Issued:
    """`text` is shown this once; it is not kept."""

    token: Token
    text: str = field(repr=False)


class Tokens:
    """Tokens for programs. What is handed out is shown once and cannot be read again."""

    def __init__(
        self, records: Records, revocations: RevocationCache, keys: ApiKeys, signer: Signer
    ) -> None:
        self._records = records
        self._store = records.store
        self._revocations = revocations
        self._signer = signer
        self._keys = keys

    async def issue(
        self,
        caller: Principal,
        *,
        name: str,
        role: Role,
        kind: Kind = "api-key",
        ttl_s: int | None = None,
        key: str | None = None,
    ) -> Issued:
        """An API key without `ttl_s` lives until it is revoked.

        Idempotent per `key`: the caller's repeat gets the same text again. Raises PermissionDenied
        when the role may do more than the caller, InvalidInput, KeyReused, and Conflict when the
        token of the key does not open anything any more.
        """
        roles.require(caller, Permission.TOKEN_WRITE)
        roles.require_cover(caller, role)
        _check(name, kind, ttl_s)
        at, uuid = self._records.clock(), id_for(caller.org, Token.resource, key)
        ttl_s = JWT_TTL_S if ttl_s is None and kind == "jwt" else ttl_s
        token = Token(
            **self._records.initial(caller.org, uuid, at=at),
            name=name,
            kind=kind,
            role=role,
            expires_at=at + timedelta(seconds=ttl_s) if ttl_s else None,
            created_by=caller.id,
            user=None if role is Role.NODE else caller.user,
        )
        text = self._text(token, key)
        if kind == "api-key":
            token.secret_hash = _hash(text)
        token = await self._records.insert_once(
            token,
            [event("created", token_kind=kind, role=role)],
            actor=caller.id,
            is_same=lambda earlier: _wish(earlier) == _wish(token),
        )
        return self._again(token, key) if token.replayed else Issued(token, text)

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Token]:
        """Those in force and those that ran out, without their texts; not the revoked ones."""
        roles.require(caller, Permission.TOKEN_WRITE)
        where = {"kind": {"$in": KINDS}, "revoked_at": None}
        return await page(
            self._store, Token, org=caller.org, where=where, limit=limit, cursor=cursor
        )

    async def get(self, caller: Principal, uuid: str) -> Token:
        """One that `list` shows. Raises NotFound."""
        roles.require(caller, Permission.TOKEN_WRITE)
        token = await self._store.get(Token, uuid, org=caller.org)
        if token.revoked_at is not None or token.kind not in KINDS:
            raise NotFound(f"There is no token {uuid}.")
        return token

    async def revoke(self, caller: Principal, uuid: str) -> Token:
        """Here at once, in other processes with the event. Idempotent. NotFound."""
        roles.require(caller, Permission.TOKEN_WRITE)
        return await self.end(await self._store.get(Token, uuid, org=caller.org), caller.id)

    async def end(self, token: Token, actor: str) -> Token:
        def decide(token: Token, at: datetime) -> Change | None:
            ended = token.revoked_at is not None
            return None if ended else Change({"revoked_at": at}, send=[event("revoked")])

        token = await self._records.amend(token, decide, actor=actor)
        self._keys.forget(token.uuid)
        self._revocations.forget(token.org)
        return token

    def _text(self, token: Token, key: str | None) -> str:
        if token.kind == "jwt":
            return self._signer.sign(_claims(token))
        if key is None:
            return make_api_key(token.uuid, secrets.token_bytes(SECRET_BYTES))
        # A repeat has to be answered with a text that is kept nowhere.
        secret = self._signer.derive(f"api-key\n{token.uuid}\n{key}")
        return make_api_key(token.uuid, secret[:SECRET_BYTES])

    def _again(self, earlier: Token, key: str | None) -> Issued:
        text = self._text(earlier, key)
        turned = earlier.kind == "api-key" and earlier.secret_hash != _hash(text)
        if turned or earlier.revoked_at is not None:
            raise Conflict("The token of this key opens nothing any more: send a new key.")
        return Issued(earlier, text)


def _check(name: str, kind: str, ttl_s: int | None) -> None:
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise InvalidInput(f"name needs 1 to {NAME_MAX} printable characters.", field="name")
    if kind not in KINDS:
        raise InvalidInput("kind must be api-key or jwt.", field="kind")
    if ttl_s is not None and not 1 <= ttl_s <= TTL_MAX_S:
        raise InvalidInput(f"ttl_s must be between 1 and {TTL_MAX_S} seconds.", field="ttl_s")


def _hash(text: str) -> str:
    return secret_hash(text.rpartition("_")[2])


def _wish(token: Token) -> tuple[object, ...]:
    """What was asked for, and by whom: nobody else is shown the text."""
    life = token.expires_at and token.expires_at - token.created_at
    return token.name, token.kind, token.role, life, token.created_by


def _claims(token: Token) -> Claims:
    return Claims(
        subject=f"token:{token.uuid}",
        org=token.org,
        name=token.name,
        role=token.role,
        kind=TokenKind.ACCESS,
        id=token.uuid,
        session=token.uuid,
        user=token.user,
        issued_at=token.created_at,
        expires_at=token.expires_at or token.created_at,
    )


class ApiKeys:
    """Keeps what it has read for `MAX_AGE`; of unknown keys it remembers nothing."""

    def __init__(self, store: Store, revocations: RevocationCache, clock: Clock) -> None:
        self._store = store
        self._revocations = revocations
        self._clock = clock
        self._read: TTLCache[str, Token] = TTLCache(
            REMEMBERED, ttl=MAX_AGE.total_seconds(), timer=lambda: clock().timestamp()
        )
        self._changes = 0

    async def read(self, text: str) -> Token | None:
        """The token of an API key; None when `text` is something else.

        Raises Unauthenticated with `reason` `invalid`, `expired`, `revoked` or `user_inactive`.
        """
        parts = read_api_key(text)
        if parts is None:
            return None
        token = await self._known(parts[0])
        # Compared also when there is no such token, so that ids cannot be probed.
        hashed = token.secret_hash if token else None
        if not secret_matches(parts[1], hashed) or token is None:
            raise Unauthenticated("The API key is invalid.", reason="invalid")
        if token.revoked_at is not None:
            raise Unauthenticated("The API key was revoked.", reason="revoked")
        if token.expires_at is not None and self._clock() >= token.expires_at:
            raise Unauthenticated("The API key has expired.", reason="expired")
        await self._revocations.require(token.org, (), token.user)
        return token

    def forget(self, uuid: str) -> None:
        self._changes += 1
        self._read.pop(uuid, None)

    async def _known(self, uuid: str) -> Token | None:
        token = self._read.get(uuid)
        if token is None:
            changes = self._changes
            token = await self._store.find_by_id(Token, uuid, org=EVERY_ORG)
            if token is not None and changes == self._changes:
                self._read[uuid] = token
        return token


_API_KEY = re.compile(r"myk_([0-9a-f]{32})_([0-9a-f]{32,128})")


def make_api_key(id: str, secret: bytes) -> str:
    """`myk_<id>_<secret>`: `id` is the token's uuid, `secret` at least 16 random bytes."""
    return f"myk_{id.replace('-', '')}_{secret.hex()}"


def read_api_key(text: str) -> tuple[str, str] | None:
    """uuid and secret part, or None when `text` is not an API key."""
    found = _API_KEY.fullmatch(text)
    if found is None:
        return None
    return str(uuid.UUID(found[1])), found[2]


def secret_matches(secret: str, hashed: str | None) -> bool:
    """In constant time, also when there is no hash."""
    return hmac.compare_digest(secret_hash(secret), hashed or "")


def secret_hash(secret: str) -> str:
    """SHA-256 in hex of the secret part: random, so it needs neither salt nor stretching."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Revocations:
    """What opens nothing any more, of one organisation."""

    at: datetime
    revoked: Revoked
    is_gone: bool = False
    """The organisation is deleted."""


class RevocationCache:
    """One short list per organisation of what is revoked, read anew when it is `MAX_AGE` old."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, Revocations] = {}
        self._loading = KeyedLocks()
        self._changes = 0

    async def require(self, org: str, tokens: Iterable[str], user: str | None) -> None:
        """Raises Unauthenticated with `reason` `revoked` or `user_inactive`; StoreUnavailable."""
        known = await self._current(org)
        if user in known.revoked.inactive:
            raise Unauthenticated("The account is disabled.", reason="user_inactive")
        if not known.revoked.all.isdisjoint((*tokens, user)):
            raise Unauthenticated("The token was revoked: log in again.", reason="revoked")
        if known.is_gone:
            raise Unauthenticated("The organisation was deleted.", reason="revoked")

    def forget(self, org: str) -> None:
        """Something changed: notice it with the next request."""
        self._changes += 1
        self._known.pop(org, None)

    def forget_all(self) -> None:
        self._changes += 1
        self._known.clear()

    async def _current(self, org: str) -> Revocations:
        if known := self._fresh(org):
            return known
        # Of many requests that find it old, one reads and the others wait for that.
        async with self._loading.of(org):
            if known := self._fresh(org):
                return known
            changes = self._changes
            known = await revocations(self._store, org, at=self._clock())
            if changes == self._changes:
                self._known[org] = known
            return known

    def _fresh(self, org: str) -> Revocations | None:
        known = self._known.get(org)
        if known and timedelta(0) <= self._clock() - known.at < MAX_AGE:
            return known
        return None


async def revocations(store: Store, org: str, *, at: datetime) -> Revocations:
    """As the store says now."""
    deleted = {"slug": org, "status": OrganisationStatus.DELETED.value}
    found, gone = await asyncio.gather(
        revoked(store, org, since=at - 2 * MAX_AGE),
        store.find_one(Organisation, org=EVERY_ORG, where=deleted),
    )
    return Revocations(at, found, gone is not None)
