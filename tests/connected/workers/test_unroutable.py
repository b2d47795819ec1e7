"""Commands that no stage knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.dead_letters.service import DeadLetters
from pipeline.dead_letters.writer import UnroutableCommands
from tests.support.events import remove_stage
from tests.support.systems.working import TRIAL, command, member


@pytest.fixture
def later(bus: Bus) -> UnroutableCommands:
    return UnroutableCommands(bus, lambda: datetime.now(UTC) + timedelta(seconds=61), age_s=60)


async def test_a_command_that_nobody_knows_is_given_up_once_it_is_old(
    bus: Bus, later: UnroutableCommands
) -> None:
    await bus.publish(command(1))
    assert await UnroutableCommands(bus, lambda: datetime.now(UTC), age_s=60).sweep() == 0
    assert await later.sweep() == 1
    assert await later.sweep() == 0
    [letter] = (await DeadLetters(bus).list(member("acme"))).items
    assert (letter.code, letter.subject) == ("unknown_command", TRIAL.subject.replace("*", "acme"))
    assert (await bus.client.jetstream().stream_info("YARD_COMMANDS")).state.messages == 0


async def test_a_command_that_some_release_handles_is_left_alone(
    bus: Bus, later: UnroutableCommands
) -> None:
    await bus.prepare_stage(TRIAL)
    await bus.publish(command(1))
    await bus.publish_raw(topology.command("acme", "image", "delete"), b"{}", {})
    # Its durable is about to be made anew.
    await remove_stage(bus, topology.IMAGE_DELETE)
    assert await later.sweep() == 0
