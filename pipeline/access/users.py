"""Users of organisations and their passwords."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar

from pipeline import errors, topology
from pipeline.access import roles
from pipeline.access.passwords import Passwords
from pipeline.access.tokens import RevocationCache
from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records, require_revision
from pipeline.records.messages import event
from pipeline.records.queries import Page, page
from schemas.access import Permission, Principal, Role, User, UserEdit
from schemas.organisation import Organisation
from schemas.states import OrganisationStatus

T = TypeVar("T")

HASHING_AT_ONCE: Final = 4
"""Each takes 64 MiB for a moment: a flood of logins waits instead of eating the memory."""
NAME_MAX: Final = 255


class Users:
    """Users of organisations. Passwords are kept as Argon2id hashes only."""

    def __init__(
        self, records: Records, revocations: RevocationCache, passwords: Passwords
    ) -> None:
        self._records = records
        self._store = records.store
        self._revocations = revocations
        self._passwords = passwords
        self._hashing = asyncio.Semaphore(HASHING_AT_ONCE)

    async def found(self, org: str, name: str, password: str) -> User:
        """The first admin of an organisation. Idempotent: a user of that name stays as it is.

        Raises Misconfigured when there is neither an admin nor a password to make one with.
        """
        known = await self._find(org, name)
        if known is None and not password:
            known = await self._store.find_one(User, org=org, where=_ADMIN)
            if known is None:
                raise errors.Misconfigured(
                    f"The organisation {org} has no administrator and there is no default"
                    " password: set MODELYARD_ADMIN_PASSWORD."
                )
        if known is not None:
            return known
        try:
            return await self._insert(org, name, password, Role.ADMIN, "system:bootstrap")
        except errors.InvalidInput as error:
            raise errors.Misconfigured(f"MODELYARD_ADMIN_PASSWORD: {error.message}") from error
        except errors.AlreadyExists:
            return await self.found(org, name, password)

    async def create(
        self,
        caller: Principal,
        name: str,
        password: str,
        role: Role,
        *,
        org: str | None = None,
        key: str | None = None,
    ) -> User:
        """In the caller's organisation, or for administrators of the platform in any other.

        Idempotent per `key`; of a repeat the password is not compared. Raises AlreadyExists,
        InvalidInput, KeyReused, PermissionDenied, and NotFound for the organisation.
        """
        roles.require(caller, Permission.USER_WRITE)
        roles.require_cover(caller, role)
        org = await self._org(caller, org)
        return await self._insert(org, name, password, role, caller.id, key)

    async def list(
        self,
        caller: Principal,
        *,
        org: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[User]:
        """Raises PermissionDenied, NotFound for the organisation."""
        roles.require(caller, Permission.USER_WRITE)
        org = await self._org(caller, org)
        return await page(self._store, User, org=org, limit=limit, cursor=cursor)

    async def find(self, caller: Principal, wanted: str, *, org: str | None = None) -> User:
        """By uuid or name. Raises PermissionDenied, NotFound."""
        roles.require(caller, Permission.USER_WRITE)
        is_platform = Permission.ORGANISATION_WRITE in caller.permissions
        scope = EVERY_ORG if is_platform and org is None else await self._org(caller, org)
        named = await self._org(caller, org)
        found = await self._store.find_by_id(User, wanted, org=scope)
        found = found or await self._find(named, wanted)
        if found is None:
            raise errors.NotFound(f"There is no user {wanted[:NAME_MAX]}.")
        return found

    async def edit(
        self,
        caller: Principal,
        wanted: str,
        edit: UserEdit,
        *,
        password: str | None = None,
        org: str | None = None,
        revision: int | None = None,
    ) -> User:
        """Disable or enable a user, give another role or password. Idempotent, but for a password.

        Whoever is disabled, or gets another role or password, has to log in anew: sessions, tokens
        and keys of before are good no more, here at once, in other processes with the event.
        Raises PermissionDenied, NotFound, StaleRevision, InvalidInput, and Conflict for a caller
        who would disable himself or change his own role.
        """
        found = await self.find(caller, wanted, org=org)
        if edit.role is not None:
            roles.require_cover(caller, edit.role)
        given = password
        hashed = given and await self._hash(lambda: self._passwords.hash(given))

        def decide(user: User, at: datetime) -> Change | None:
            require_revision(user, revision)
            values, kinds = _edited(user, edit, hashed)
            if caller.user in user.holders and not values.keys() <= {"password_hash", "generation"}:
                raise errors.Conflict("Not of yourself: ask another administrator.")
            return Change(values, send=[event(kind) for kind in kinds]) if kinds else None

        changed = await self._records.amend(found, decide, actor=caller.id)
        self._revocations.forget(changed.org)
        return changed

    async def check(self, org: str, name: str, password: str) -> User:
        """The user who has this password.

        Raises Unauthenticated, after the same time, whatever was wrong; `reason` is `credentials`,
        or `user_inactive` when the password was right.
        """
        user = await self._find(org, name)
        hashed = user.password_hash if user else None
        right = await self._hash(lambda: self._passwords.matches(password, hashed))
        if user is None or not right:
            raise errors.Unauthenticated("User name or password is wrong.", reason="credentials")
        if not user.active:
            raise errors.Unauthenticated("The account is disabled.", reason="user_inactive")
        if self._passwords.is_outdated(user.password_hash):
            await self._rehash(user, password)
        return user

    async def _find(self, org: str, name: str) -> User | None:
        if len(name) > NAME_MAX:
            return None
        return await self._store.find_one(User, org=org, where={"name": name})

    async def _org(self, caller: Principal, wanted: str | None) -> str:
        """The slug. Raises NotFound for another organisation than the caller may change."""
        if wanted is None or wanted == caller.org:
            return caller.org
        slug = await slug_of(self._store, wanted)
        is_known = {"slug": slug, "status": OrganisationStatus.ACTIVE.value}
        if slug != caller.org and (
            Permission.ORGANISATION_WRITE not in caller.permissions
            or await self._store.find_one(Organisation, org=EVERY_ORG, where=is_known) is None
        ):
            raise errors.NotFound(f"There is no organisation {wanted[:NAME_MAX]}.")
        return slug

    async def _insert(
        self, org: str, name: str, password: str, role: Role, actor: str, key: str | None = None
    ) -> User:
        if not 1 <= len(name) <= NAME_MAX or "@" in name or not name.isprintable():
            raise errors.InvalidInput(
                f"A user name has 1 to {NAME_MAX} printable characters and no @.", field="name"
            )
        hashed = await self._hash(lambda: self._passwords.hash(password))
        uuid = id_for(topology.token(org), User.resource, key)
        user = User(**self._records.initial(org, uuid), name=name, password_hash=hashed, role=role)
        return await self._records.insert_once(
            user,
            [event("created")],
            actor=actor,
            taken=f"A user named {name} exists already.",
            is_same=lambda earlier: (earlier.name, earlier.role) == (name, role),
        )

    async def _rehash(self, user: User, password: str) -> None:
        hashed = await self._hash(lambda: self._passwords.hash(password))
        # Whoever else changed the user wins: the next login hashes anew.
        with suppress(errors.LostRace):
            await self._records.commit(user, Change({"password_hash": hashed}))

    async def _hash(self, work: Callable[[], T]) -> T:
        async with self._hashing:
            return await asyncio.to_thread(work)


def _edited(
    user: User, edit: UserEdit, hashed: str | None
) -> tuple[dict[str, Any], builtins.list[str]]:
    """The values that change, and the kinds of events that tell of it."""
    values: dict[str, Any] = {}
    kinds = []
    if edit.role is not None and edit.role is not user.role:
        values["role"] = edit.role.value
        kinds.append("role-changed")
    if hashed:
        values["password_hash"] = hashed
        kinds.append("password-changed")
    if values:
        values["generation"] = user.generation + 1
    if edit.active is not None and edit.active is not user.active:
        values["active"] = edit.active
        kinds.append("enabled" if edit.active else "disabled")
    return values, kinds


async def slug_of(store: Store, named: str) -> str:
    """Of an organisation that is named by its slug or its UUID; what is no UUID of one is taken
    for a slug."""
    found = await store.find_by_id(Organisation, named.lower(), org=EVERY_ORG)
    return named if found is None else found.slug


_ADMIN: Final = {"role": Role.ADMIN.value, "active": True}
