"""Commands of organisations on their way from the broker's own users to the workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.stack.pieces.nats import NatsPiece, inbox_prefix, org_user
from tests.support.systems.services import ORGS
from tests.support.systems.working import TRIAL, Worker, command
from tests.support.waiting import eventually
from workers.app import build
from workers.broker import YardBroker, stage
from workers.middleware import Command, Received
from workers.stages.intake import Intakes

HOME = "acme"


@asynccontextmanager
async def user_of(org: str, nats_piece: NatsPiece) -> AsyncIterator[Client]:
    url = f"nats://{org_user(org)}:{ORGS[org]}@127.0.0.1:{nats_piece.port}"
    client = await nats.connect(url, inbox_prefix=inbox_prefix(org).encode())
    try:
        yield client
    finally:
        await client.close()


async def publish(nats_piece: NatsPiece, org: str, headers: Mapping[str, str], body: bytes) -> Any:
    async with user_of(org, nats_piece) as client:
        subject = topology.command(org, "trial", "run")
        return await client.jetstream().publish(subject, body, headers=dict(headers))


@asynccontextmanager
async def taking_in(bus: Bus, worker: Worker) -> AsyncIterator[Intakes]:
    def register(broker: YardBroker) -> None:
        @stage(broker, TRIAL)
        async def trial(order: dict[str, Any], command: Command, received: Received) -> None:
            worker.received.append(received)
            worker.commands.append(command)

    await bus.prepare_stage(TRIAL)
    app = build(bus, [register], registry=worker.registry, drain_s=5, jitter=lambda: 0.5)
    assert isinstance(app.broker, YardBroker)
    await bus.prepare_org(HOME)
    intakes = Intakes(app.broker, bus)
    app.after_startup(intakes.sweep)
    await app.start()
    try:
        yield intakes
    finally:
        await app.stop()


async def prepared(bus: Bus) -> None:
    for org in ORGS:
        await bus.prepare_org(org)


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def test_commands_of_two_organisations_with_the_same_ids_are_both_carried_out(
    bus: Bus, own_nats: NatsPiece, worker: Worker
) -> None:
    await prepared(bus)
    headers = command(1).headers() | {"ce-id": "the-same", "Nats-Msg-Id": "the-same"}
    async with taking_in(bus, worker):
        for org in ("other", "acme"):
            await publish(own_nats, org, headers, b"{}")
            await publish(own_nats, org, headers, b"{}")
        await eventually(lambda: len(worker.commands) == 2)
        async with user_of("acme", own_nats) as late:
            again = await late.jetstream().publish(
                topology.command("acme", "trial", "run"), b"{}", headers=headers
            )
            assert again.duplicate
    assert {each.subject for each in worker.commands} == {
        topology.command(org, "trial", "run") for org in ("acme", "other")
    }
    assert {each.id for each in worker.commands} == {"the-same"}


async def test_an_id_that_a_record_would_get_makes_no_command_of_ours_vanish(
    bus: Bus, own_nats: NatsPiece, worker: Worker
) -> None:
    ours = command(1, org="acme")
    await prepared(bus)
    async with taking_in(bus, worker):
        await publish(own_nats, "other", ours.headers(), b"{}")
        await eventually(lambda: len(worker.commands) == 1)
        await bus.publish(ours)
        await eventually(lambda: len(worker.commands) == 2)
    assert worker.commands[-1].subject == ours.subject


async def test_an_organisation_that_comes_later_is_taken_in_without_a_restart(
    bus: Bus, own_nats: NatsPiece, worker: Worker
) -> None:
    async with taking_in(bus, worker) as intakes:
        await publish(own_nats, HOME, command(1).headers(), b"{}")
        await eventually(lambda: len(worker.commands) == 1)
        await bus.prepare_org("other")
        await publish(own_nats, "other", command(1, org="other").headers(), b"{}")
        await intakes.sweep()
        await eventually(lambda: len(worker.commands) == 2)


async def test_commands_wait_until_a_worker_is_there(
    bus: Bus, own_nats: NatsPiece, worker: Worker
) -> None:
    await prepared(bus)
    for number in range(5):
        await publish(own_nats, "other", command(number).headers(), b'{"n": %d}' % number)
    async with taking_in(bus, worker):
        await eventually(lambda: len(worker.commands) == 5)


async def test_what_is_no_command_is_taken_in_as_it_came(
    bus: Bus, own_nats: NatsPiece, worker: Worker
) -> None:
    async with taking_in(bus, worker):
        await publish(own_nats, HOME, {}, b"\x00 no json")
        await eventually(lambda: worker.count("done", "intake") == 1)
        await eventually(lambda: worker.count("retried") >= 1)
