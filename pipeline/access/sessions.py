"""Sessions of users, and how the guessing of passwords is slowed."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.access.tokens import RevocationCache, Tokens
from pipeline.access.users import Users, slug_of
from pipeline.adapters.store.windows import Windows
from pipeline.errors import TooManyRequests, Unauthenticated
from pipeline.records.idempotency import new_id
from pipeline.records.kernel import Clock, Records
from pipeline.records.messages import event
from pipeline.settings import Settings
from schemas.access import Token, User

PURGED_AT_ONCE: Final = 10
WINDOW: Final = timedelta(minutes=1)
"""In which failed logins are counted."""
KNOWN: Final = timedelta(days=30)
"""How long an address counts by itself for an account that logged in from there."""
SUBNET_V6: Final = 64
"""What one caller commonly has of IPv6."""


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
        records: Records,
        users: Users,
        tokens: Tokens,
        revocations: RevocationCache,
        signer: Signer,
        settings: Settings,
    ) -> None:
        self._records = records
        self._users = users
        self._tokens = tokens
        self._revocations = revocations
        self._signer = signer
        self._settings = settings
        self.windows = Windows(records.store)
        self._throttle = LoginThrottle(
            self.windows,
            records.clock,
            per_account=settings.login_failures_per_minute,
            per_address=settings.login_failures_per_address_per_minute,
        )

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

        An organisation is named by its slug or its UUID. `address` is the caller's, for slowing
        failures; `access_s` asks for an access token of another length. Raises Unauthenticated and
        TooManyRequests (`retry_after_s`).
        """
        if org is None:
            username, _, org = username.partition("@")
        org = await slug_of(self._records.store, org or self._settings.org)
        attempt = await self._throttle.take(org, username, address)
        user = await self._users.check(org, username, password)
        await self._throttle.forgive(attempt)
        await self._revocations.require(org, (), user.holder)
        await self._records.tell(user, event("logged-in"), actor=f"user:{user.uuid}")
        refresh = self._claims(user, TokenKind.REFRESH, self._settings.refresh_token_s)
        return self._session(user, refresh, access_s)

    async def refresh(self, text: str, *, access_s: int | None = None) -> Login:
        """A new access token with the user's present role; the refresh token stays valid.

        Raises Unauthenticated, also with `reason` `user_not_found` or `user_inactive`.
        """
        claims = await self.read(text, TokenKind.REFRESH)
        uuid = (claims.user or "").partition(".")[0]
        user = await self._records.store.find_by_id(User, uuid, org=claims.org)
        if user is None:
            raise Unauthenticated("The user is gone.", reason="user_not_found")
        if not user.active:
            raise Unauthenticated("The account is disabled.", reason="user_inactive")
        return self._session(user, claims, access_s, text)

    async def read(self, text: str, kind: TokenKind | None) -> Claims:
        """What a token of this kind, or with None of either, says. Raises Unauthenticated."""
        claims = self._signer.read(text, at=self._records.clock(), kind=kind)
        await self._revocations.require(claims.org, (claims.id, claims.session), claims.user)
        return claims

    async def logout(self, text: str) -> None:
        """Ends the whole session of an access or refresh token, or a JWT that was issued.

        Raises Unauthenticated, also when it has ended before.
        """
        claims = await self.read(text, None)
        await self._purge(claims.org)
        at = self._records.clock()
        note = Token(
            **self._records.initial(claims.org, claims.session, at=at),
            name=claims.name,
            kind="session",
            role=claims.role,
            expires_at=at + timedelta(seconds=self._settings.refresh_token_s),
            revoked_at=at,
            user=claims.user,
        )
        note = await self._records.insert_once(note, [event("revoked")])
        await self._tokens.end(note, claims.subject)

    async def _purge(self, org: str) -> None:
        """Notes of sessions whose tokens have expired say nothing any more."""
        store, old = self._records.store, self._records.clock() - timedelta(hours=1)
        where = {"kind": "session", "expires_at": {"$lt": old}}
        for note in await store.find(Token, org=org, where=where, sort=(), limit=PURGED_AT_ONCE):
            await store.delete(Token, note.uuid, org=org)

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
        at = self._records.clock().replace(microsecond=0)
        id = new_id()
        ends = at + timedelta(seconds=lifetime_s)
        return Claims(
            subject=f"user:{user.uuid}",
            org=user.org,
            name=user.name,
            role=user.role,
            kind=kind,
            id=id,
            session=refresh.id if refresh else id,
            user=user.holder,
            issued_at=at,
            # A session ends as a whole, so that a note about it need not outlive its refresh token.
            expires_at=min(ends, refresh.expires_at) if refresh else ends,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that was counted."""

    id: str
    keys: tuple[str, ...]
    known: str
    """Key of the account at this address."""


class LoginThrottle:
    """Counts in the store, so that all processes count together.

    Failures at an account count from wherever they come, so that many addresses gain nothing. An
    address from which the account logged in lately is counted by itself: strangers cannot lock
    out its owner. One address that tries many accounts is stopped by a count of its own.
    """

    def __init__(
        self, windows: Windows, clock: Clock, *, per_account: int, per_address: int
    ) -> None:
        self._windows = windows
        self._clock = clock
        self._per_account = per_account
        self._per_address = per_address

    async def take(self, org: str, name: str, address: str) -> Attempt:
        """Counts one before it is made.

        Raises TooManyRequests with `retry_after_s`; such an attempt is not counted.
        """
        caller = network(address)
        known = _key("known", org, name, caller)
        is_known = await self._windows.is_noted(known)
        account = _key("account", org, name, caller if is_known else "")
        attempt = Attempt(new_id(), (_key("address", caller), account), known)
        taken: list[str] = []
        for key, most in zip(attempt.keys, (self._per_address, self._per_account), strict=True):
            wait = await self._windows.take(key, attempt.id, most, at=self._clock(), window=WINDOW)
            if wait is not None:
                await self._give_back(attempt.id, taken)
                raise _too_many(wait)
            taken.append(key)
        return attempt

    async def forgive(self, attempt: Attempt) -> None:
        """It succeeded: it counts no more, and its address is known from now on.

        What failed before it stays counted: whoever has one account of his own could guess at
        others between his own logins.
        """
        await self._give_back(attempt.id, attempt.keys)
        await self._windows.note(attempt.known, KNOWN)

    async def _give_back(self, id: str, keys: list[str] | tuple[str, ...]) -> None:
        for key in keys:
            await self._windows.give_back(key, id)


def network(address: str) -> str:
    """What stands for one caller: an IPv4 address, or the subnet of an IPv6 one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, SUBNET_V6), strict=False))


def _key(*parts: str) -> str:
    # People type passwords where names belong: nothing of either is kept.
    text = "\n".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _too_many(wait: timedelta) -> TooManyRequests:
    wait_s = max(1, math.ceil(wait.total_seconds()))
    return TooManyRequests(
        f"Too many failed attempts: try again in {wait_s} s.", retry_after_s=wait_s
    )
