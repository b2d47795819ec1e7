"""`modelyard secrets rotate-key` against servers that are restarted with other keys."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import SecretStr

from pipeline.adapters.store import Store
from pipeline.rules.vault import Vault
from pipeline.settings import Settings
from schemas.secret import Secret
from tests.support import commands
from tests.support.api_process import ORG, api_process, log_in, settings
from tests.support.secrets import HIDDEN, HOST, NEW_KEY, OLD_KEY

YARD = (sys.executable, "-m", "cli.main", "secrets")


@asynccontextmanager
async def served(base: Settings, keys: str) -> AsyncIterator[dict[str, str]]:
    """What the command line needs to reach a server with these keys."""
    given = base.model_copy(update={"encryption_keys": SecretStr(keys)})
    async with api_process(given) as api, httpx.AsyncClient(base_url=api.url) as http:
        yield {"MODELYARD_URL": api.url, "MODELYARD_TOKEN": await log_in(http)}


async def keep(env: dict[str, str], name: str) -> str:
    data = {"server": HOST, "username": "ada", "password": HIDDEN}
    body: dict[str, Any] = {"name": name, "secret_type": "registry", "data": data}
    headers = {"Authorization": f"Bearer {env['MODELYARD_TOKEN']}"}
    async with httpx.AsyncClient(base_url=env["MODELYARD_URL"], headers=headers) as http:
        answer = await http.post("/accounts/secrets/", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def rotate(env: dict[str, str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *YARD,
        "rotate-key",
        env=env,
        cwd=commands.CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate()
    return process.returncode or 0, out.decode(), said.decode()


async def test_the_key_is_exchanged_on_a_running_installation(
    nats_url: str, mongo_url: str
) -> None:
    base = settings(nats_url, mongo_url)
    async with served(base, OLD_KEY) as env:
        kept = [await keep(env, f"secret-{number}") for number in range(3)]
    async with served(base, f"{NEW_KEY},{OLD_KEY}") as env:
        assert await rotate(env) == (0, "", "3 sealed anew\n")
        assert await rotate(env) == (0, "", "0 sealed anew\n")
        async with Store.open(mongo_url, base.mongo_database) as store:
            stored = {each.uuid: each for each in await store.find(Secret, org=ORG)}
            spoil = {"$set": {"sealed": "v1.lost.AAAA"}}
            await store.update(Secret, kept[0], org=ORG, guard={}, update=spoil)
        told = (1, f"{kept[0]}\n", "0 sealed anew\nNo key opens these, enter them anew:\n")
        assert await rotate(env) == told
    alone = Vault.from_setting(NEW_KEY)
    for uuid in kept:
        assert HIDDEN in alone.open(stored[uuid].sealed, org=ORG, record=uuid)


async def test_a_new_key_is_one_that_the_setting_takes() -> None:
    first, second = [(await commands.run(*YARD, "new-key")).strip() for _ in range(2)]
    assert re.fullmatch(r"k[0-9a-f]{8}:[A-Za-z0-9+/]{43}=", first)
    assert Vault.from_setting(f"{first},{second}").key_id == first.partition(":")[0]
