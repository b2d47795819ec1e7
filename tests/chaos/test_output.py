"""What a container wrote is kept once and whole, whoever died meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.store.store import Store
from pipeline.logs.service import LogFilter, StoredLogs
from pipeline.stack.pieces.dockerd import DockerdPiece
from tests.support.systems.system import System
from tests.support.systems.working import member
from tests.support.waiting import eventually

TALKS = (
    "i=0; while :; do i=$((i+1)); echo out $i; [ $((i%10)) = 0 ] && echo err $i >&2;"
    " [ $((i%200)) = 0 ] && sleep 0.2; done"
)
"""Up to a thousand lines a second."""


async def kept(system: System, uuid: str) -> dict[str, str]:
    """By stream, oldest first."""
    texts, cursor = {"stdout": "", "stderr": ""}, None
    async with Store.open(system.settings["MONGO_URL"], system.database) as store:
        logs, caller = StoredLogs(store), member("default")
        while True:
            which = LogFilter(container=uuid)
            page = await logs.list(caller, which, limit=1000, cursor=cursor)
            for chunk in page.items:
                texts[chunk.stream] = chunk.text + texts[chunk.stream]
            if (cursor := page.next) is None:
                return texts


async def until_later(system: System, uuid: str) -> None:
    """Something is kept that was written after now."""
    which = LogFilter(container=uuid, since=datetime.now(UTC))
    async with Store.open(system.settings["MONGO_URL"], system.database) as store:

        async def is_there() -> bool:
            return bool((await StoredLogs(store).list(member("default"), which, limit=1)).items)

        await eventually(is_there, timeout_s=45)


async def written(host: str, id: str) -> dict[str, str]:
    """The same, as the engine has it."""
    texts = {"stdout": "", "stderr": ""}
    async with DockerEngine.open(host) as engine:
        async for line in engine.logs(id, tail=None, since=None, follow=False):
            texts[line.stream] += line.text
    return texts


@pytest.mark.timeout(300)
async def test_agents_workers_and_engines_that_die_leave_no_gap_and_nothing_twice(
    own_dockerd: DockerdPiece, system: System, served: str
) -> None:
    system.settings["DOCKER_HOST"] = system.docker_host = own_dockerd.host
    # Its container is not to be placed anew, which would be another run on the engine.
    system.settings["NODE_GRACE_S"] = "120"
    api, worker, agent = await system.api(), await system.worker(), await system.agent()
    await system.login(api)
    await system.nodes(api)
    await system.image(api, served)
    spec = {"entrypoint": ["sh", "-c", TALKS], "restart": "always"}
    container = await system.run(api, served, **spec)
    path = f"/containers/{container['uuid']}"

    await until_later(system, container["uuid"])
    for victim in (agent, worker, own_dockerd):
        await victim.kill()
        await victim.start()
        await until_later(system, container["uuid"])
    await system.call(api, "POST", f"{path}/stop")
    stopped = await system.until(api, path, lambda c: c["status"] == "STOPPED", 60)
    expected = await written(own_dockerd.host, stopped["engine_id"])
    assert expected["stdout"].count("out 1\n") >= 2, "it ran more than once"

    async def is_all() -> bool:
        return await kept(system, container["uuid"]) == expected

    await eventually(is_all, timeout_s=30)
