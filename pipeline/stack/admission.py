"""How the person who starts a stack gets in: a token and an API key of its administrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pydantic import SecretStr

from pipeline.adapters.store import Store
from pipeline.core import records
from pipeline.core.access import Access
from pipeline.errors import Unauthenticated
from pipeline.rules import roles
from pipeline.settings import Settings
from pipeline.stack.keys import Keys
from schemas.access import Principal, Role, User

NAME = "local-stack"
RENEW_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Admission:
    token: str
    api_key: str


async def admit(
    settings: Settings, keys: Keys, environ: Mapping[str, str], clock: records.Clock = records.now
) -> Admission:
    """The token and key of an earlier start while they are good, else new ones.

    `environ` is what the API was started with. Creates the administrator when there is none.
    """
    told = _as_told(settings, environ)
    async with Store.open(told.mongo_url, told.mongo_database) as store:
        access = Access(store, told, clock)
        caller = _principal(await access.bootstrap())
        return Admission(
            token=await _kept_or_new(access, caller, keys.token, "jwt", clock),
            api_key=await _kept_or_new(access, caller, keys.api_key, "api-key", clock),
        )


def _as_told(settings: Settings, environ: Mapping[str, str]) -> Settings:
    return settings.model_copy(
        update={
            "mongo_url": environ.get("MODELYARD_MONGO_URL", settings.mongo_url),
            "signing_key": SecretStr(environ["MODELYARD_SIGNING_KEY"]),
            "admin_password": SecretStr(environ["MODELYARD_ADMIN_PASSWORD"]),
        }
    )


def _principal(user: User) -> Principal:
    """Whoever can read the signing key may act as the administrator."""
    return Principal(
        id=f"user:{user.uuid}",
        org=user.org,
        name=user.name,
        roles=frozenset({Role.ADMIN}),
        permissions=roles.permissions([Role.ADMIN], own=True),
    )


async def _kept_or_new(
    access: Access,
    caller: Principal,
    kept: str,
    kind: Literal["jwt", "api-key"],
    clock: records.Clock,
) -> str:
    if kept and await _is_good(access, kept, kind, clock):
        return kept
    return (await access.issue(caller, name=NAME, role=Role.ADMIN, kind=kind)).text


async def _is_good(access: Access, kept: str, kind: str, clock: records.Clock) -> bool:
    try:
        await access.authenticate(f"Bearer {kept}")
        if kind == "jwt":
            return (await access.verify(kept)).expires_at - clock() > RENEW_BEFORE
    except Unauthenticated:
        return False
    return True
