"""Tokens that somebody asked for: API keys for programs, long-lived JWTs, tokens of nodes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, get_args

from pipeline.adapters.store import Store
from pipeline.core import records
from pipeline.core.api_keys import ApiKeys
from pipeline.core.paging import Page, page
from pipeline.core.standing import Standing
from pipeline.errors import AlreadyExists, Conflict, InvalidInput, KeyReused, LostRace, NotFound
from pipeline.rules import api_keys, roles
from pipeline.rules.tokens import Claims, Signer, TokenKind
from schemas.access import Permission, Principal, Role, Token

Kind = Literal["api-key", "jwt"]
KINDS: Final = get_args(Kind)

NAME_MAX: Final = 255
TTL_MAX_S: Final = 10 * 365 * 86_400
JWT_TTL_S: Final = 30 * 86_400
"""Of a JWT for which no time was asked: every JWT ends."""
SECRET_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Issued:
    """`text` is shown this once; it is not kept."""

    token: Token
    text: str = field(repr=False)


class Tokens:
    """Tokens for programs. What is handed out is shown once and cannot be read again."""

    def __init__(
        self,
        store: Store,
        standing: Standing,
        keys: ApiKeys,
        signer: Signer,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._standing = standing
        self._signer = signer
        self._clock = clock
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
        token = await self._new(caller, name, role, kind, ttl_s, key)
        text = self._text(token, key)
        if kind == "api-key":
            token.secret_hash = _hash(text)
        try:
            return Issued(await self._store.insert(token), text)
        except AlreadyExists:
            earlier = await self._store.get(Token, token.uuid, org=caller.org)
            return self._again(earlier, token, key)

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
        """Here at once, in other processes within `standing.MAX_AGE`. Idempotent. NotFound."""
        roles.require(caller, Permission.TOKEN_WRITE)
        return await self.end(await self._store.get(Token, uuid, org=caller.org), caller.id)

    async def end(self, token: Token, actor: str) -> Token:
        while token.revoked_at is None:
            at, revision = self._clock(), token.revision + 1
            message = records.event(token, "revoked", at=at, actor=actor, revision=revision)
            try:
                token = await self._store.change(
                    token, {"revoked_at": at}, at=at, messages=[message]
                )
            except LostRace:
                token = await self._store.get(Token, token.uuid, org=token.org)
        self._keys.forget(token.uuid)
        self._standing.forget(token.org)
        return token

    def _text(self, token: Token, key: str | None) -> str:
        if token.kind == "jwt":
            return self._signer.sign(_claims(token))
        # A repeat has to be answered with a text that is kept nowhere.
        secret = (
            secrets.token_bytes(SECRET_BYTES)
            if key is None
            else self._signer.derive(f"api-key\n{token.uuid}\n{key}")[:SECRET_BYTES]
        )
        return api_keys.make_api_key(token.uuid, secret)

    def _again(self, earlier: Token, asked: Token, key: str | None) -> Issued:
        if _wish(earlier) != _wish(asked):
            raise KeyReused("This key was used for another request: send a new key.")
        text = self._text(earlier, key)
        turned = earlier.kind == "api-key" and earlier.secret_hash != _hash(text)
        if turned or earlier.revoked_at is not None:
            raise Conflict("The token of this key opens nothing any more: send a new key.")
        return Issued(earlier.model_copy(update={"replayed": True}), text)

    async def _new(
        self,
        caller: Principal,
        name: str,
        role: Role,
        kind: Kind,
        ttl_s: int | None,
        key: str | None,
    ) -> Token:
        at = self._clock()
        ttl_s = JWT_TTL_S if ttl_s is None and kind == "jwt" else ttl_s
        token = Token(
            uuid=records.id_for(caller.org, Token.resource, key),
            org=caller.org,
            created_at=at,
            updated_at=at,
            name=name,
            kind=kind,
            role=role,
            expires_at=at + timedelta(seconds=ttl_s) if ttl_s else None,
            created_by=caller.id,
            user=None if role is Role.NODE else await self._user_of(caller),
        )
        facts = {"token_kind": kind, "role": role}
        token.outbox = [
            records.event(token, "created", at=at, actor=caller.id, revision=1, **facts)
        ]
        return token

    async def _user_of(self, caller: Principal) -> str | None:
        kind, _, uuid = caller.id.partition(":")
        if kind != "token":
            return uuid if kind == "user" else None
        return (await self._store.get(Token, uuid, org=caller.org)).user


def _check(name: str, kind: str, ttl_s: int | None) -> None:
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise InvalidInput(f"name needs 1 to {NAME_MAX} printable characters.", field="name")
    if kind not in KINDS:
        raise InvalidInput("kind must be api-key or jwt.", field="kind")
    if ttl_s is not None and not 1 <= ttl_s <= TTL_MAX_S:
        raise InvalidInput(f"ttl_s must be between 1 and {TTL_MAX_S} seconds.", field="ttl_s")


def _hash(text: str) -> str:
    return api_keys.secret_hash(text.rpartition("_")[2])


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
