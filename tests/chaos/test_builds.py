"""Builds whose agent or worker is killed: nothing half-made is left, or the whole image once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.builds import specs
from tests.chaos.conftest import Yard
from tests.support.archives.contexts import context, shell
from tests.support.waiting import eventually


async def build(yard: Yard, name: str, content: bytes) -> dict[str, Any]:
    answer = await yard.system.call(
        yard.api,
        "POST",
        "/builds",
        params={"name": name},
        content=content,
        headers={"Content-Type": "application/x-tar"},
    )
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def is_clean(yard: Yard, uuid: str) -> bool:
    """Neither the engine nor the folder of the agent has anything of a build."""
    async with DockerEngine.open(yard.dockerd.host) as engine:
        tags = await engine.tags(specs.REPOSITORY)
        remnants = await engine.remnants(specs.LABEL)
        steps = await engine.list({specs.LABEL: uuid})
    folders = Path(yard.system.settings["STATE"]).glob(f"builds/*/{uuid}")
    return not (list(tags) or list(remnants) or list(steps) or list(folders))


async def test_an_agent_killed_in_the_middle_of_a_build_leaves_nothing_half_made(
    yard: Yard,
) -> None:
    steps = ("RUN echo first > /a", "RUN echo waits; sleep 300")
    begun = await build(yard, "interrupted", shell(*steps))
    path = f"/builds/{begun['uuid']}"
    await yard.system.until(yard.api, path, lambda it: "waits" in it["last_lines"], 60)
    assert not await is_clean(yard, begun["uuid"])
    await yard.agent.kill()
    await yard.agent.start()
    ended = await yard.system.until(yard.api, path, lambda it: it["status"] == "FAILED", 60)
    # Under load the agent may be back only after its node was given up.
    assert ended["code"] in ("interrupted", "node_lost")
    assert ended["image"] is None
    await eventually(lambda: is_clean(yard, begun["uuid"]), timeout_s=60)
    images = await yard.system.get(yard.api, "/images?name=interrupted")
    assert images["items"] == []


async def test_a_worker_killed_while_it_stores_a_built_image_stores_it_once(yard: Yard) -> None:
    content = context("FROM scratch\nCOPY weights /\n", weights=os.urandom(48 * 2**20))
    begun = await build(yard, "stored", content)
    path = f"/builds/{begun['uuid']}"
    await yard.system.until(yard.api, path, lambda it: it["status"] in ("PUSHING", "DONE"), 60)
    await yard.worker.kill()
    await yard.worker.start()
    done = await yard.system.until(yard.api, path, lambda it: it["status"] == "DONE", 90)
    images = await yard.system.get(yard.api, "/images?name=stored&superseded=true")
    assert [(each["uuid"], each["status"]) for each in images["items"]] == [
        (done["image"], "READY")
    ]
    await eventually(lambda: is_clean(yard, begun["uuid"]), timeout_s=60)
