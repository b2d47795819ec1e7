"""`modelyard secrets` against servers of their own, some restarted with other keys."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.app import create
from cli.commands.registries.secrets import app
from pipeline.adapters.store.store import Store
from pipeline.secrets.vault import Vault
from pipeline.settings import Settings
from schemas.registries.secret import Secret
from tests.support.command_line import CliRunner
from tests.support.http.api_process import ORG, log_in, settings
from tests.support.http.serving import serving
from tests.support.secrets import HIDDEN, HOST, NEW_KEY, OLD_KEY


@asynccontextmanager
async def served(base: Settings, keys: str) -> AsyncIterator[dict[str, str]]:
    """What the command line needs to reach a server with these keys."""
    given = base.model_copy(update={"encryption_keys": SecretStr(keys), "api_port": 0})
    async with (
        serving(create(given), given) as (_, url),
        httpx.AsyncClient(base_url=url, timeout=30) as http,
    ):
        yield {"MODELYARD_URL": url, "MODELYARD_TOKEN": await log_in(http)}


async def keep(env: dict[str, str], name: str) -> str:
    data = {"server": HOST, "username": "ada", "password": HIDDEN}
    body: dict[str, Any] = {"name": name, "secret_type": "registry", "data": data}
    headers = {"Authorization": f"Bearer {env['MODELYARD_TOKEN']}"}
    async with httpx.AsyncClient(
        base_url=env["MODELYARD_URL"], headers=headers, timeout=30
    ) as http:
        answer = await http.post("/accounts/secrets/", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def call(env: dict[str, str], *arguments: str, given: str = "") -> tuple[int, str, str]:
    """Exit code, and what it wrote to standard output and standard error."""
    done = await asyncio.to_thread(CliRunner(env=env).invoke, app, arguments, input=given)
    return done.exit_code, done.stdout, done.stderr


async def rotate(env: dict[str, str]) -> tuple[int, str, str]:
    return await call(env, "rotate-key")


@pytest.fixture(scope="module")
async def env(nats_url: str, mongo_url: str) -> AsyncIterator[dict[str, str]]:
    async with served(settings(nats_url, mongo_url), OLD_KEY) as env:
        yield env


async def test_a_secret_is_added_listed_and_deleted_and_never_shown(env: dict[str, str]) -> None:
    add = ("add", "mine", "--server", HOST, "--username", "ada", "--password-stdin")
    code, uuid, said = await call(env, *add, given=f"{HIDDEN}\n")
    assert (code, said) == (0, f"kept for {HOST}\n")
    code, out, said = await call(env, *add, given="other")
    assert (code, out) == (1, "")
    assert "There is a secret mine already" in said
    hub = ("add", "hub", "--type", "docker_hub", "--username", "ada", "--password-stdin")
    assert (await call(env, *hub, given=HIDDEN))[0] == 0
    code, listed, _ = await call(env, "list", "--json")
    assert {each["name"]: each["server"] for each in json.loads(listed)} == {
        "mine": HOST,
        "hub": "registry-1.docker.io",
    }
    assert HIDDEN not in listed
    assert uuid.strip() in listed
    assert await call(env, "delete", uuid.strip()) == (0, "", "deleted\n")
    assert await call(env, "delete", "hub") == (0, "", "deleted\n")
    code, _, said = await call(env, "delete", "hub")
    assert (code, said) == (3, "Not Found: There is no secret hub.\n")


async def test_what_is_wrong_with_a_secret_is_told_by_field(env: dict[str, str]) -> None:
    wrong = ("add", "mine", "--server", "http://x/y", "--username", "a:b", "--password-stdin")
    code, out, said = await call(env, *wrong, given="")
    assert (code, out) == (2, "")
    for told in ("username must not contain a colon;", "password is required."):
        assert told in said


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
    first, second = [(await call({}, "new-key"))[1].strip() for _ in range(2)]
    assert re.fullmatch(r"k[0-9a-f]{8}:[A-Za-z0-9+/]{43}=", first)
    assert Vault.from_setting(f"{first},{second}").key_id == first.partition(":")[0]
