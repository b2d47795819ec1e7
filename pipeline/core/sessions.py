"""Sessions of users: an access token for calls and a refresh token for new access tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pipeline.adapters.store import Store
from pipeline.core import records
from pipeline.core.accounts import Accounts
from pipeline.core.standing import Standing
from pipeline.core.tokens import Tokens
from pipeline.errors import AlreadyExists, NotFound, Unauthenticated
from pipeline.rules.attempts import Attempts
from pipeline.rules.tokens import Claims, Signer, TokenKind
from pipeline.settings import Settings
from schemas.access import Token, User

PURGED_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Login:
    """A session: `claims` are those of the access token."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    claims: Claims
    user: User


class Sessions:
    """Logins: a short access token and a longer refresh token that belong together."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        tokens: Tokens,
        standing: Standing,
        signer: Signer,
        settings: Settings,
        clock: records.Clock,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._tokens = tokens
        self._standing = standing
        self._signer = signer
        self._settings = settings
        self._clock = clock
        self._attempts = Attempts(settings.login_failures_per_minute)

    async def login(
        self,
        username: str,
        password: str,
        org: str | None = None,
        *,
        address: str,
        access_s: int | None = None,
    ) -> Login:
        """Without `org`, `name@org` names it, and otherwise it is the installation's own.

        `address` is the caller's, for slowing failures; `access_s` asks for an access token of
        another length. Raises Unauthenticated and TooManyRequests (`retry_after_s`).
        """
        if org is None:
            username, _, org = username.partition("@")
        org = org or self._settings.org_id
        key = (org, username, address)
        self._attempts.take(key, self._clock())
        user = await self._accounts.check(org, username, password)
        self._attempts.forgive(key)
        refresh = self._claims(user, TokenKind.REFRESH, self._settings.refresh_token_s)
        return self._session(user, refresh, access_s)

    async def refresh(self, text: str, *, access_s: int | None = None) -> Login:
        """A new access token with the user's present role; the refresh token stays valid.

        Raises Unauthenticated, also with `reason` `user_not_found` or `user_inactive`.
        """
        claims = await self.read(text, TokenKind.REFRESH)
        try:
            user = await self._store.get(User, claims.user or "", org=claims.org)
        except NotFound:
            raise Unauthenticated("The user is gone.", reason="user_not_found") from None
        if not user.active:
            raise Unauthenticated("The account is disabled.", reason="user_inactive")
        return self._session(user, claims, access_s, text)

    async def read(self, text: str, kind: TokenKind | None) -> Claims:
        """What a token of this kind, or with None of either, says. Raises Unauthenticated."""
        claims = self._signer.read(text, at=self._clock(), kind=kind)
        await self._standing.require(claims.org, (claims.id, claims.session), claims.user)
        return claims

    async def logout(self, text: str) -> None:
        """Ends the whole session of an access or refresh token, or a JWT that was issued.

        Raises Unauthenticated, also when it has ended before.
        """
        claims = await self.read(text, None)
        await self._purge(claims.org)
        at = self._clock()
        note = Token(
            uuid=claims.session,
            org=claims.org,
            created_at=at,
            updated_at=at,
            name=claims.name,
            kind="session",
            role=claims.role,
            expires_at=at + timedelta(seconds=self._settings.refresh_token_s),
            revoked_at=at,
            user=claims.user,
        )
        try:
            await self._store.insert(note)
        except AlreadyExists:
            note = await self._store.get(Token, claims.session, org=claims.org)
        await self._tokens.end(note, claims.subject)

    async def _purge(self, org: str) -> None:
        """Notes of sessions whose tokens have expired say nothing any more."""
        where = {"kind": "session", "expires_at": {"$lt": self._clock() - timedelta(hours=1)}}
        for note in await self._store.find(
            Token, org=org, where=where, sort=(), limit=PURGED_AT_ONCE
        ):
            await self._store.delete(Token, note.uuid, org=org)

    def _session(
        self, user: User, refresh: Claims, access_s: int | None, text: str | None = None
    ) -> Login:
        lifetime_s = access_s or self._settings.access_token_s
        claims = self._claims(user, TokenKind.ACCESS, lifetime_s, refresh)
        sign = self._signer.sign
        return Login(sign(claims), text or sign(refresh), claims, user)

    def _claims(
        self, user: User, kind: TokenKind, lifetime_s: int, refresh: Claims | None = None
    ) -> Claims:
        at = self._clock().replace(microsecond=0)
        id = records.new_id()
        ends = at + timedelta(seconds=lifetime_s)
        return Claims(
            subject=f"user:{user.uuid}",
            org=user.org,
            name=user.name,
            role=user.role,
            kind=kind,
            id=id,
            session=refresh.id if refresh else id,
            user=user.uuid,
            issued_at=at,
            # A session ends as a whole, so that a note about it need not outlive its refresh token.
            expires_at=min(ends, refresh.expires_at) if refresh else ends,
        )
