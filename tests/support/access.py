"""Callers of two organisations, and a clock that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.core.access import Access
from pipeline.core.sessions import Login
from pipeline.errors import Unauthenticated
from pipeline.rules.passwords import Passwords
from pipeline.settings import Settings
from schemas.access import Principal, Role, User

HOME, OTHER = "home", "other"
PASSWORD = "open sesame, please"
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
        "org_id": HOME,
    }
    return Settings(**(given | changes))


async def login(access: Access, name: str = "admin", org: str | None = None) -> Login:
    return await access.login(name, PASSWORD, org, address="127.0.0.1")


async def principal(access: Access, login: Login) -> Principal:
    return await access.authenticate(f"Bearer {login.access}")


async def member(access: Access, admin: Principal, role: Role = Role.MEMBER) -> User:
    return await access.accounts.create(admin, f"the-{role}", PASSWORD, role)


async def refused(access: Access, header: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await access.authenticate(header)
    return str(caught.value.facts["reason"])
