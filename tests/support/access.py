"""Callers of two organisations, and a clock that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.access.passwords import Passwords
from pipeline.access.service import Access
from pipeline.access.sessions import Login
from pipeline.adapters.store.store import Store
from pipeline.errors import Unauthenticated
from pipeline.records.kernel import Records
from pipeline.records.messages import Outbox, Publisher
from pipeline.settings import Settings
from schemas.access import Principal
from tests.support.tenants import PASSWORD

HOME, OTHER = "home", "other"
CHEAP = Passwords(time_cost=1, memory_kib=64, parallelism=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2024, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def settings(**changes: Any) -> Settings:
    given: dict[str, Any] = {
        "signing_key": SecretStr("k" * 32),
        "admin_password": SecretStr(PASSWORD),
        "org": HOME,
    }
    return Settings(**(given | changes))


def records(store: Store, clock: Clock, bus: Publisher | None = None) -> Records:
    """Without a broker, what is said stays in the records."""
    return Records(store, Outbox(store, bus), clock)


async def login(access: Access, name: str = "admin", org: str | None = None) -> Login:
    return await access.sessions.login(name, PASSWORD, org, address="127.0.0.1")


async def principal(access: Access, login: Login) -> Principal:
    return await access.authenticate(f"Bearer {login.access}")


async def refused(access: Access, header: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await access.authenticate(header)
    return str(caught.value.facts["reason"])
