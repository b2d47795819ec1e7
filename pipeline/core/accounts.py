"""Users of organisations and their passwords."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final, TypeVar

from pipeline.adapters.store import Store
from pipeline.core import records
from pipeline.core.paging import Page, page
from pipeline.core.standing import Standing
from pipeline.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    LostRace,
    Misconfigured,
    Unauthenticated,
)
from pipeline.rules import roles, topology
from pipeline.rules.passwords import Passwords
from schemas.access import Permission, Principal, Role, User

T = TypeVar("T")

HASHING_AT_ONCE: Final = 4
"""Each takes 64 MiB for a moment: a flood of logins waits instead of eating the memory."""
NAME_MAX: Final = 255


class Accounts:
    """Users of organisations. Passwords are kept as Argon2id hashes only."""

    def __init__(
        self, store: Store, standing: Standing, passwords: Passwords, clock: records.Clock
    ) -> None:
        self._store = store
        self._standing = standing
        self._passwords = passwords
        self._clock = clock
        self._hashing = asyncio.Semaphore(HASHING_AT_ONCE)

    async def found(self, org: str, name: str, password: str) -> User:
        """The first admin of an organisation. Idempotent: a user of that name stays as it is.

        Raises Misconfigured when there is neither an admin nor a password to make one with.
        """
        known = await self._find(org, name)
        if known is None and not password:
            known = await self._store.find_one(User, org=org, where=_ADMIN)
            if known is None:
                raise Misconfigured(
                    f"The organisation {org} has no administrator and there is no default"
                    " password: set MODELYARD_ADMIN_PASSWORD."
                )
        if known is not None:
            return known
        try:
            return await self._insert(org, name, password, Role.ADMIN, "system:bootstrap")
        except InvalidInput as error:
            raise Misconfigured(f"MODELYARD_ADMIN_PASSWORD: {error.message}") from error
        except AlreadyExists:
            return await self.found(org, name, password)

    async def create(self, caller: Principal, name: str, password: str, role: Role) -> User:
        """In the caller's organisation. Raises AlreadyExists, InvalidInput, PermissionDenied."""
        roles.require(caller, Permission.USER_WRITE)
        roles.require_cover(caller, role)
        try:
            return await self._insert(caller.org, name, password, role, caller.id)
        except AlreadyExists as taken:
            raise AlreadyExists(f"A user named {name} exists already.", **taken.facts) from taken

    async def list(
        self, caller: Principal, *, limit: int = 50, cursor: str | None = None
    ) -> Page[User]:
        roles.require(caller, Permission.USER_WRITE)
        return await page(self._store, User, org=caller.org, limit=limit, cursor=cursor)

    async def disable(self, caller: Principal, uuid: str) -> User:
        """Ends every login and token of the user. Idempotent. Raises NotFound, Conflict."""
        roles.require(caller, Permission.USER_WRITE)
        if caller.id == _subject(uuid):
            raise Conflict("You cannot disable yourself: ask another administrator.")
        return await self._activate(caller, uuid, active=False)

    async def enable(self, caller: Principal, uuid: str) -> User:
        roles.require(caller, Permission.USER_WRITE)
        return await self._activate(caller, uuid, active=True)

    async def check(self, org: str, name: str, password: str) -> User:
        """The user who has this password.

        Raises Unauthenticated, after the same time, whatever was wrong; `reason` is `credentials`,
        or `user_inactive` when the password was right.
        """
        user = await self._find(org, name)
        hashed = user.password_hash if user else None
        right = await self._hash(lambda: self._passwords.matches(password, hashed))
        if user is None or not right:
            raise Unauthenticated("User name or password is wrong.", reason="credentials")
        if not user.active:
            raise Unauthenticated("The account is disabled.", reason="user_inactive")
        if self._passwords.is_outdated(user.password_hash):
            await self._rehash(user, password)
        return user

    async def _find(self, org: str, name: str) -> User | None:
        if len(name) > NAME_MAX:
            return None
        return await self._store.find_one(User, org=org, where={"name": name})

    async def _insert(self, org: str, name: str, password: str, role: Role, actor: str) -> User:
        if not 1 <= len(name) <= NAME_MAX or "@" in name or not name.isprintable():
            raise InvalidInput(
                f"A user name has 1 to {NAME_MAX} printable characters and no @.", field="name"
            )
        hashed = await self._hash(lambda: self._passwords.hash(password))
        at = self._clock()
        user = User(
            uuid=records.new_id(),
            org=topology.token(org),
            created_at=at,
            updated_at=at,
            name=name,
            password_hash=hashed,
            role=role,
        )
        user.outbox = [records.event(user, "created", at=at, actor=actor, revision=1, role=role)]
        return await self._store.insert(user)

    async def _activate(self, caller: Principal, uuid: str, *, active: bool) -> User:
        user = await self._store.get(User, uuid, org=caller.org)
        if user.active is active:
            return user
        try:
            changed = await self._change_active(user, active, self._clock(), caller.id)
        except LostRace:
            return await self._activate(caller, uuid, active=active)
        self._standing.forget(caller.org)
        return changed

    async def _change_active(self, user: User, active: bool, at: datetime, actor: str) -> User:
        kind, revision = "enabled" if active else "disabled", user.revision + 1
        message = records.event(user, kind, at=at, actor=actor, revision=revision)
        return await self._store.change(user, {"active": active}, at=at, messages=[message])

    async def _rehash(self, user: User, password: str) -> None:
        hashed = await self._hash(lambda: self._passwords.hash(password))
        # Whoever else changed the user wins: the next login hashes anew.
        with suppress(LostRace):
            await self._store.change(user, {"password_hash": hashed}, at=self._clock())

    async def _hash(self, work: Callable[[], T]) -> T:
        async with self._hashing:
            return await asyncio.to_thread(work)


_ADMIN: Final = {"role": Role.ADMIN.value, "active": True}


def _subject(uuid: str) -> str:
    return f"user:{uuid}"
