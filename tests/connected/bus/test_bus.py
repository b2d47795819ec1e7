"""The bus adapter on a real broker: topology, connection, publishing."""

from __future__ import annotations

import asyncio

import nats.js.api
import pytest

from pipeline import topology
from pipeline.adapters.bus import client as bus_module
from pipeline.adapters.bus.client import Bus
from pipeline.errors import BusUnavailable, InvalidInput, Misconfigured, TooLarge
from pipeline.stack.pieces.nats import NatsPiece
from schemas.message import Message
from tests.support.events import AT, happened, remove_stage, stored_events
from tests.support.waiting import eventually

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
    await remove_stage(bus, plan)
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
    [stored] = [event async for event in stored_events(bus, None)]
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


async def test_a_publish_whose_ack_was_late_is_repeated_and_stored_once(
    bus: Bus, own_nats: NatsPiece, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "ACK_S", 0.3)
    own_nats.pause()
    publishing = asyncio.ensure_future(bus.publish(happened(1), timeout_s=10))
    sent = bus.client.stats["out_msgs"]
    await eventually(lambda: bus.client.stats["out_msgs"] >= sent + 3)
    own_nats.resume()
    assert await publishing == 1
    await bus.publish(happened(2))
    assert [event.sequence async for event in stored_events(bus, None)] == [1, 2]


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


async def _answers(bus: Bus) -> bool:
    try:
        await bus.ping()
    except BusUnavailable:
        return False
    return True
