"""What is asked of one engine, against a server that answers as each test wants."""

from __future__ import annotations

from pipeline.adapters.engine.docker import DockerEngine
from pipeline.ports import LaunchPlan
from tests.support.engines.fake_engine import Exchange, FakeEngine


async def test_a_name_held_by_a_container_that_is_not_shown_is_tried_again() -> None:
    tries = 0

    async def create(exchange: Exchange) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            taken = 'Conflict. The container name "/my-1" is already in use by container "ab".'
            exchange.json(409, {"message": taken})
        else:
            exchange.json(201, {"Id": "cd"})

    async def absent(exchange: Exchange) -> None:
        exchange.json(404, {"message": "No such container: my-1"})

    async with FakeEngine.open() as fake, DockerEngine.open(fake.address) as engine:
        fake.on["POST", "/containers/create"] = create
        fake.on["GET", "/containers/my-1/json"] = absent
        assert await engine.create(LaunchPlan(name="my-1", image="a")) == "cd"
    assert tries == 3
