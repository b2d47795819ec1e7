"""Callers who keep registry secrets, and a password that must turn up nowhere."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import SecretStr

from pipeline.access.roles import PERMISSIONS
from pipeline.secrets.service import Secrets
from pipeline.settings import Settings
from schemas.access import Principal, Role
from schemas.registries.secret import SecretSummary

HOST = "registry.test:5000"
HIDDEN = "s3cr3t-V4lue"
OLD_KEY = "k1:" + base64.b64encode(b"o" * 32).decode()
NEW_KEY = "k2:" + base64.b64encode(b"n" * 32).decode()


def settings(keys: str = OLD_KEY) -> Settings:
    return Settings(encryption_keys=SecretStr(keys))


def caller(org: str) -> Principal:
    return Principal(
        id=f"user:{org}",
        org=org,
        name="ada",
        roles=frozenset({Role.MEMBER}),
        permissions=PERMISSIONS[Role.MEMBER],
    )


ADA, EVE = caller("acme"), caller("other")


async def keep(
    secrets: Secrets, who: Principal = ADA, name: str = "mine", **data: Any
) -> SecretSummary:
    given = {"server": HOST, "username": "ada", "password": HIDDEN}
    return await secrets.create(who, name=name, secret_type="registry", data=given | data)
