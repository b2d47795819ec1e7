"""The bus adapter on a real broker: topology, publishing, reading, following."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import nats.js.api
import pytest

from pipeline.adapters.bus import Bus, StoredEvent
from pipeline.errors import BusUnavailable, InvalidInput, Misconfigured, NotFound, TooLarge
from pipeline.rules import topology
from pipeline.stack.nats import NatsPiece
from schemas.message import Message
from tests.support.events import Heard
from tests.support.waiting import eventually

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def happened(number: int, *, org: str = "acme", **data: Any) -> Message:
    return Message(
        id=f"{org}-{number}",
        subject=topology.event(org, "image", f"i{number}", "created"),
        type="modelyard.image.created",
        time=AT,
        data={"id": f"i{number}"} | data,
    )


@pytest.fixture
async def heard(bus: Bus) -> AsyncIterator[Heard]:
    heard = Heard()
    async with bus.live(heard.event, heard.reset):
        yield heard


# --- streams and durables


async def test_prepare_makes_everything_and_may_be_repeated_at_the_same_time(
    own_nats: NatsPiece,
) -> None:
    async with Bus.open(own_nats.url, name="one") as one, Bus.open(own_nats.url, name="two") as two:
        before = await one.missing()
        assert "YARD_COMMANDS" in before
        assert "image-validate" in before
        await asyncio.gather(one.prepare(), two.prepare(), one.prepare(), two.prepare())
        assert await one.missing() == []
        await two.prepare()


async def test_prepare_follows_a_changed_plan_and_keeps_what_the_operator_set(bus: Bus) -> None:
    js = bus.client.jetstream()
    config = (await js.stream_info("YARD_EVENTS")).config
    await js.update_stream(config.evolve(max_bytes=123_456_789))
    await js.add_consumer(
        "YARD_COMMANDS",
        (await js.consumer_info("YARD_COMMANDS", "image-validate")).config.evolve(ack_wait=99.0),
    )

    await bus.prepare()

    assert (await js.stream_info("YARD_EVENTS")).config.max_bytes == 123_456_789
    durable = (await js.consumer_info("YARD_COMMANDS", "image-validate")).config
    assert durable.ack_wait == topology.IMAGE_VALIDATE.ack_wait_s


async def test_an_older_release_leaves_the_streams_of_a_newer_one_alone(bus: Bus) -> None:
    js = bus.client.jetstream()
    config = (await js.stream_info("YARD_EVENTS")).config
    newer = {"modelyard.topology": str(topology.VERSION + 1)}
    await js.update_stream(config.evolve(max_age=999.0, metadata=newer))

    await bus.prepare()

    assert (await js.stream_info("YARD_EVENTS")).config.max_age == 999.0


async def test_a_foreign_stream_of_the_same_name_is_refused(own_nats: NatsPiece) -> None:
    async with Bus.open(own_nats.url, name="test") as bus:
        js = bus.client.jetstream()
        await js.add_stream(nats.js.api.StreamConfig(name="YARD_COMMANDS", subjects=["else"]))
        with pytest.raises(Misconfigured, match="YARD_COMMANDS"):
            await bus.prepare()


async def test_a_deleted_durable_and_a_deleted_stream_are_missed_and_made_again(bus: Bus) -> None:
    js = bus.client.jetstream()
    await js.delete_consumer("YARD_COMMANDS", "image-delete")
    await js.delete_stream("YARD_DEAD")
    assert sorted(await bus.missing()) == ["YARD_DEAD", "dead-advisories", "image-delete"]
    await bus.prepare()
    assert await bus.missing() == []


async def test_the_durable_of_a_node_is_made_and_removed(bus: Bus) -> None:
    plan = topology.node_stage("n1")
    await bus.prepare_stage(plan)
    await bus.prepare_stage(plan)
    assert await bus.missing((), (plan,)) == []
    await bus.remove_stage(plan)
    await bus.remove_stage(plan)
    assert await bus.missing((), (plan,)) == ["node-n1"]


# --- connecting and publishing


async def test_no_broker_is_a_clear_error_within_the_bound() -> None:
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:9"):
        async with Bus.open("nats://user:pw@127.0.0.1:9", name="test", wait_s=0.5):
            pass


async def test_a_refused_login_is_a_clear_error_at_once(own_nats: NatsPiece) -> None:
    with pytest.raises(Misconfigured, match="refused the login") as caught:
        async with Bus.open(f"nats://no:body@127.0.0.1:{own_nats.port}", name="test", wait_s=20):
            pass
    assert "body" not in str(caught.value)


async def test_an_address_that_is_none_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_NATS_URL"):
        async with Bus.open("", name="test"):
            pass


async def test_the_same_message_published_twice_is_stored_once(bus: Bus) -> None:
    first = await bus.publish(happened(1))
    assert await bus.publish(happened(1)) == first
    assert await bus.publish(happened(2)) == first + 1
    assert (await bus.position()).last == first + 1


async def test_a_message_arrives_as_it_was_sent(bus: Bus) -> None:
    sent = happened(1, note="zwölf €").model_copy(update={"actor": 'user:"ä"\n', "id": "a b%c"})
    await bus.publish(sent)
    [stored] = [event async for event in bus.read(0, None)]
    assert stored.headers["ce-specversion"] == "1.0"
    received = Message.from_wire(stored.subject, stored.headers, stored.data, received_at=AT)
    assert received == sent


async def test_what_the_broker_cannot_take_is_refused_without_losing_the_connection(
    bus: Bus,
) -> None:
    with pytest.raises(TooLarge):
        await bus.publish(happened(1, blob="x" * bus.client.max_payload))
    with pytest.raises(TooLarge):
        await bus.publish_raw("yard.evt.a.b.c.d", b"x" * (bus.client.max_payload - 100), {"h": "v"})
    with pytest.raises(InvalidInput):
        await bus.publish_raw("yard.evt.a b", b"", {})
    await bus.publish(happened(2))


async def test_publishing_to_a_missing_stream_is_unavailable_within_the_bound(bus: Bus) -> None:
    await bus.client.jetstream().delete_stream("YARD_EVENTS")
    started = asyncio.get_running_loop().time()
    with pytest.raises(BusUnavailable):
        await bus.publish(happened(1), timeout_s=0.4)
    assert asyncio.get_running_loop().time() - started < 2


async def test_a_full_stream_refuses_and_takes_again_once_there_is_room(bus: Bus) -> None:
    js = bus.client.jetstream()
    config = (await js.stream_info("YARD_EVENTS")).config
    full = config.evolve(max_bytes=100, discard=nats.js.api.DiscardPolicy.NEW)
    await js.update_stream(full)
    with pytest.raises(BusUnavailable, match="maximum bytes exceeded"):
        await bus.publish(happened(1), timeout_s=0.3)
    await js.update_stream(config)
    await bus.publish(happened(99))


async def test_ping_says_when_the_broker_is_gone(bus: Bus, own_nats: NatsPiece) -> None:
    await bus.ping()
    own_nats.pause()
    with pytest.raises(BusUnavailable):
        await bus.ping(timeout_s=0.2)
    own_nats.resume()
    await eventually(lambda: _answers(bus))
    await own_nats.kill()
    with pytest.raises(BusUnavailable):
        await bus.ping(timeout_s=0.5)


# --- reading


async def test_reading_pages_through_batches_and_keeps_to_one_organisation(bus: Bus) -> None:
    for number in range(300):
        await bus.publish(happened(number, org="acme" if number % 3 else "other"))
    everything = [event.sequence async for event in bus.read(0, None)]
    assert everything == list(range(1, 301))
    acme = [event async for event in bus.read(150, "acme")]
    assert {topology.parse_event(event.subject).org for event in acme} == {"acme"}
    assert [event.sequence for event in acme] == [n + 1 for n in range(150, 300) if n % 3]
    assert [event async for event in bus.read(300, None)] == []
    assert [event async for event in bus.read(0, "nobody")] == []


async def test_reading_a_missing_stream_says_so(own_nats: NatsPiece) -> None:
    async with Bus.open(own_nats.url, name="test") as bus:
        with pytest.raises(BusUnavailable, match="YARD_EVENTS"):
            _ = [event async for event in bus.read(0, None)]
        with pytest.raises(NotFound):
            await bus.epoch()


async def test_one_stored_message_is_read_and_deleted_by_its_sequence(bus: Bus) -> None:
    sequence = await bus.publish(happened(1))
    await bus.publish(happened(2))
    stored = await bus.stored("YARD_EVENTS", sequence)
    assert stored.headers["Nats-Msg-Id"] == "acme-1"
    assert await bus.delete_stored("YARD_EVENTS", sequence)
    assert not await bus.delete_stored("YARD_EVENTS", sequence)
    with pytest.raises(NotFound):
        await bus.stored("YARD_EVENTS", sequence)


async def test_the_epoch_changes_only_when_the_stream_is_made_anew(bus: Bus) -> None:
    epoch = await bus.epoch()
    await bus.publish(happened(1))
    await bus.prepare()
    assert await bus.epoch() == epoch
    await bus.client.jetstream().delete_stream("YARD_EVENTS")
    await bus.prepare()
    assert await bus.epoch() != epoch


# --- following


async def test_live_hands_over_every_event_in_order(bus: Bus, heard: Heard) -> None:
    await asyncio.gather(*(bus.publish(happened(number)) for number in range(50)))
    await heard.until(50)
    assert heard.sequences == list(range(1, 51))
    assert heard.events[0].subject.startswith("yard.evt.acme.image.")
    assert heard.events[0].headers["ce-type"] == "modelyard.image.created"


async def test_live_begins_behind_a_sequence_and_goes_on_without_a_gap(bus: Bus) -> None:
    for number in range(5):
        await bus.publish(happened(number))
    heard = Heard()
    async with bus.live(heard.event, heard.reset, after=2):
        await bus.publish(happened(5))
        await heard.until(4)
    assert heard.sequences == [3, 4, 5, 6]
    assert heard.resets == 0


async def test_live_fills_a_gap_from_the_stream(bus: Bus, heard: Heard) -> None:
    await bus.publish(happened(1))
    await heard.until(1)
    js = bus.client.jetstream()
    config = (await js.stream_info("YARD_EVENTS")).config
    await js.update_stream(config.evolve(republish=None, metadata=None))
    await bus.publish(happened(2))
    await bus.publish(happened(3))
    await bus.prepare()
    await bus.publish(happened(4))
    await heard.until(4)
    assert heard.sequences == [1, 2, 3, 4]


async def test_live_is_not_confused_by_deleted_events(bus: Bus, heard: Heard) -> None:
    await bus.publish(happened(1))
    doomed = await bus.publish(happened(2))
    await heard.until(2)
    await bus.delete_stored("YARD_EVENTS", doomed)
    late = Heard()
    async with bus.live(late.event, late.reset, after=0):
        await bus.publish(happened(3))
        await late.until(2)
    assert late.sequences == [1, 3]


async def test_live_says_when_the_stream_was_made_anew(bus: Bus, heard: Heard) -> None:
    for number in range(3):
        await bus.publish(happened(number))
    await heard.until(3)
    await bus.client.jetstream().delete_stream("YARD_EVENTS")
    await bus.prepare()
    await bus.publish(happened(7))
    await heard.until(4)
    assert heard.resets == 1
    assert heard.sequences == [1, 2, 3, 1]


async def test_live_goes_on_after_the_broker_was_killed(
    bus: Bus, own_nats: NatsPiece, heard: Heard
) -> None:
    await bus.publish(happened(1))
    await heard.until(1)
    await own_nats.kill()
    await own_nats.start()
    async with Bus.open(own_nats.url, name="other") as other:
        await other.publish(happened(2))
    await heard.until(2)
    assert heard.sequences == [1, 2]
    await bus.publish(happened(3))
    await heard.until(3)


async def test_a_reader_that_fails_does_not_stop_the_others(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    def event(stored: StoredEvent) -> None:
        heard.event(stored)
        if stored.sequence == 1:
            raise RuntimeError("a fault of the reader")

    async with bus.live(event, heard.reset):
        await bus.publish(happened(1))
        await bus.publish(happened(2))
        await heard.until(2)
    assert "a fault of the reader" in caplog.text


async def test_a_pulled_message_that_was_not_taken_can_be_handed_back(bus: Bus) -> None:
    plan = replace(topology.IMAGE_DELETE, ack_wait_s=30)
    for number in range(3):
        await bus.publish_raw(topology.command("acme", "image", "delete"), b"", {"n": str(number)})
    async with bus.pull(plan) as pull:
        first = await pull.next(3)
        await first.ack()
    left = pull.left_over()
    assert [message.headers and message.headers["n"] for message in left] == ["1", "2"]
    for message in left:
        await message.nak()
    async with bus.pull(plan) as pull:
        again = await pull.next(1)
        assert again.metadata.num_delivered == 2


async def test_a_pull_says_that_its_durable_is_missing_and_when_it_goes(bus: Bus) -> None:
    plan = topology.IMAGE_DELETE
    async with bus.pull(plan) as pull:
        waiting = asyncio.ensure_future(pull.next(1))
        await eventually(lambda: _is_asked(bus, plan))
        await bus.remove_stage(plan)
        with pytest.raises(BusUnavailable) as caught:
            await waiting
        assert caught.value.facts["missing"] == plan.durable
        with pytest.raises(BusUnavailable) as caught:
            await pull.next(1)
        assert caught.value.facts["missing"] == plan.durable


async def test_a_waiting_pull_survives_a_restart_of_the_broker(
    bus: Bus, own_nats: NatsPiece
) -> None:
    plan = topology.IMAGE_DELETE
    async with bus.pull(plan) as pull:
        waiting = asyncio.ensure_future(pull.next(1))
        await own_nats.kill()
        await own_nats.start()
        await bus.publish_raw(topology.command("acme", "image", "delete"), b"now", {})
        async with asyncio.timeout(5):
            assert (await waiting).data == b"now"


async def _is_asked(bus: Bus, plan: topology.StagePlan) -> bool:
    info = await bus.client.jetstream().consumer_info(plan.stream.name, plan.durable)
    return bool(info.num_waiting)


async def _answers(bus: Bus) -> bool:
    try:
        await bus.ping()
    except BusUnavailable:
        return False
    return True
