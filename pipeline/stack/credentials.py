"""What a started stack is given: credentials of its administrator."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal

from pydantic import SecretStr

from pipeline.access import roles
from pipeline.access.service import Access
from pipeline.adapters.store.store import Store
from pipeline.errors import Unauthenticated
from pipeline.organisations.service import uuid_of
from pipeline.records.kernel import Clock, Records, now
from pipeline.records.messages import Outbox
from pipeline.settings import Settings
from pipeline.stack.state import Keys
from schemas.access import Principal, Role, User

NAME = "local-stack"
RENEW_BEFORE = timedelta(days=7)
_KINDS: Final[dict[str, Literal["jwt", "api-key"]]] = {"token": "jwt", "api_key": "api-key"}
"""Of the tokens, by their names among the keys."""


async def issue_credentials(
    settings: Settings, keys: Keys, environ: Mapping[str, str], clock: Clock = now
) -> tuple[Keys, str]:
    """The keys with token and API key of an earlier start while these are good, else with new ones,
    and the UUID of the installation's organisation.

    `environ` is what the API was started with. Creates the administrator when there is none.
    """
    settings = _as_started(settings, environ)
    async with Store.open(settings.mongo_url, settings.mongo_database) as store:
        access = Access(Records(store, Outbox(store, None), clock), settings)
        admin = _principal(await access.bootstrap())
        for name, kind in _KINDS.items():
            if not await _is_good(access, getattr(keys, name), kind, clock):
                issued = await access.tokens.issue(admin, name=NAME, role=Role.ADMIN, kind=kind)
                keys = keys.model_copy(update={name: issued.text})
        return keys, await uuid_of(store, settings.org)


def _as_started(settings: Settings, environ: Mapping[str, str]) -> Settings:
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
        user=user.holder,
    )


async def _is_good(access: Access, kept: str, kind: str, clock: Clock) -> bool:
    if not kept:
        return False
    try:
        await access.authenticate(f"Bearer {kept}")
        if kind == "jwt":
            return (await access.sessions.read(kept, None)).expires_at - clock() > RENEW_BEFORE
    except Unauthenticated:
        return False
    return True
