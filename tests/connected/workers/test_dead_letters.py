"""What could not be done: kept with reason and history, shown to its owner, given back."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.bus.reading import StoredEvent
from pipeline.dead_letters.service import DeadLetters
from pipeline.dead_letters.writer import DeadLetterWriter
from pipeline.errors import Conflict, InvalidInput, NotFound, RegistryUnavailable
from pipeline.secrets.vault import Vault
from pipeline.telemetry import JsonLines
from schemas.message import DeadLetter, Message
from tests.support.events import stored_events
from tests.support.systems.working import TRIAL, VAULT, Order, Worker, command, member, working
from tests.support.waiting import eventually

AT = datetime(2026, 1, 2, tzinfo=UTC)
ACME, OTHER, HOME = member("acme"), member("other"), member("home")
ONCE = replace(TRIAL, max_deliver=1)


@pytest.fixture
def letters(bus: Bus) -> DeadLetters:
    return DeadLetters(bus, home="home", seal=VAULT)


async def fail(order: Order, _: Message) -> None:
    raise RegistryUnavailable(f"cannot reach it with password=hunter2 ({order.number})")


async def the_letter(letters: DeadLetters, *, of: Any = ACME) -> DeadLetter:
    await eventually(lambda: _some(letters, of))
    [letter] = (await letters.list(of)).items
    return letter


async def test_exhausted_attempts_end_in_a_letter_with_reason_and_history(
    bus: Bus, letters: DeadLetters
) -> None:
    sent = command(1)
    async with working(bus, Worker(fail)) as worker:
        sequence = await bus.publish(sent)
        await eventually(lambda: worker.count("buried") == 1)
        await eventually(lambda: _queue_is_empty(bus))

    letter = await letters.get(ACME, (await the_letter(letters)).id)
    assert (letter.org, letter.subject, letter.type) == ("acme", sent.subject, sent.type)
    assert (letter.stage, letter.stream, letter.sequence) == ("trial", "YARD_COMMANDS", sequence)
    assert (letter.code, letter.attempts) == ("registry_unavailable", TRIAL.max_deliver)
    assert letter.reason == "cannot reach it with password=[hidden] (1)"
    assert [attempt.number for attempt in letter.history] == [1, 2, 3]
    assert {attempt.code for attempt in letter.history} == {"registry_unavailable"}
    assert letter.history[0].at < letter.history[2].at <= letter.time
    assert letter.message_id == sent.id
    assert letter.data == {"number": "number"}
    assert (await letters.reveal(ACME, letter.id)).data == {"number": 1}
    assert letter.headers["ce-id"] == sent.id


@pytest.mark.parametrize(
    ("headers", "body", "complaint"),
    [
        ({}, b'{"number":1}', "ce-specversion is missing"),
        (command(1).headers(), b"{", "not JSON"),
        (command(1).headers(), b'{"number":"many"}', "number"),
        (command(1).headers(), b"{}", "number"),
        (command(1).headers() | {"content-type": "text/plain"}, b"x", "content-type"),
    ],
)
async def test_a_poison_message_is_given_up_after_its_attempts(
    bus: Bus, letters: DeadLetters, headers: dict[str, str], body: bytes, complaint: str
) -> None:
    async with working(bus, Worker()) as worker:
        await bus.publish_raw(topology.command("acme", "trial", "run"), body, headers)
        await bus.publish(command(2))
        letter = await the_letter(letters)
        assert worker.done == [2]
    assert letter.code == "poison_message"
    assert complaint in letter.reason
    assert letter.attempts == len(letter.history) == 3


async def test_a_binary_payload_is_shown_in_base64(bus: Bus, letters: DeadLetters) -> None:
    payload = b"\x00\xff binary"
    async with working(bus, Worker(), ONCE):
        await bus.publish_raw(topology.command("acme", "trial", "run"), payload, {})
        id = (await the_letter(letters)).id
    shown, letter = await letters.get(ACME, id), await letters.reveal(ACME, id)
    assert (shown.data, shown.data_base64, shown.size_bytes) == (None, None, len(payload))
    assert letter.data is None
    assert base64.b64decode(letter.data_base64 or "") == payload


SECRETS = ("hunter2-in-env", "hunter2-in-url", "hunter2-misplaced", "hunter2-header")
CREATE = replace(topology.CONTAINER_CREATE, max_deliver=1)
LEAKY = {
    "number": 1,
    "image": "http://user:hunter2-in-url@registry/model:1",
    "env": {"TOKEN_FOR": "hunter2-in-env"},
    "passwrd": "hunter2-misplaced",
}


async def refuse(order: Order, message: Message) -> None:
    raise RegistryUnavailable(f"Nobody knows {message.data!r}, least of all {SECRETS[2][:14]}…")


async def leaky_letter(bus: Bus, letters: DeadLetters) -> str:
    """The id of the letter of a command that is full of secrets."""
    subject = topology.command("acme", "container", "create")
    sent = command(1).model_copy(update={"subject": subject, "data": LEAKY})
    async with working(bus, Worker(refuse), CREATE):
        headers = sent.headers() | {"X-Password": "hunter2-header"}
        await bus.publish_raw(subject, sent.body(), headers)
        return (await the_letter(letters)).id


async def test_secrets_of_a_payload_are_hidden_in_letters_reasons_and_logs(
    bus: Bus, letters: DeadLetters
) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    try:
        id = await leaky_letter(bus, letters)
    finally:
        logging.getLogger().removeHandler(handler)
    [listed] = (await letters.list(ACME)).items
    shown = await letters.get(ACME, id)
    assert shown.data == {
        "number": "number",
        "image": "http://[hidden]@registry/model:1",
        "env": {"TOKEN_FOR": "***"},
        "passwrd": "string",
    }
    assert shown.masked
    assert "X-Password" not in shown.headers
    assert "Nobody knows" in shown.reason
    assert "Nobody knows" in lines.getvalue()
    kept = await bus.stored(topology.DEAD.name, int(id))
    attempts = [note async for note in bus.read_stored(topology.ATTEMPTS.name, "yard.attempt.>")]
    everywhere = repr((listed, shown, kept, attempts, lines.getvalue()))
    for secret in (*SECRETS, SECRETS[2][:14]):
        assert secret not in everywhere


async def test_the_whole_text_is_shown_and_who_looked_is_an_event(
    bus: Bus, letters: DeadLetters
) -> None:
    id = await leaky_letter(bus, letters)
    whole = await letters.reveal(ACME, id)
    assert (whole.masked, whole.data) == (False, LEAKY)
    assert whole.headers["X-Password"] == "hunter2-header"
    stored = [event async for event in stored_events(bus, "acme")]
    [told] = [event for event in stored if ".dead-letter." in event.subject]
    assert told.subject == f"yard.evt.acme.dead-letter.{id}.revealed"
    assert told.headers["ce-actor"] == ACME.id
    assert b"hunter2" not in told.data
    with pytest.raises(NotFound):
        await letters.reveal(OTHER, id)


async def test_a_letter_that_no_key_opens_is_listed_and_says_so(bus: Bus) -> None:
    letters = DeadLetters(bus, seal=VAULT)
    id = await leaky_letter(bus, letters)
    rotated = DeadLetters(bus, seal=Vault({"k2": b"z" * 32}))
    shown = await rotated.get(ACME, id)
    assert (shown.data, shown.size_bytes) == (None, None)
    for call in (rotated.reveal, rotated.requeue):
        with pytest.raises(Conflict, match="encryption key"):
            await call(ACME, id)
    await rotated.drop(ACME, id)


async def test_a_letter_of_before_there_were_seals_is_masked_and_requeued(
    bus: Bus, letters: DeadLetters
) -> None:
    async with working(bus, Worker(refuse), CREATE, seal=None):
        subject = topology.command("acme", "container", "create")
        sent = command(1).model_copy(update={"subject": subject, "data": LEAKY})
        await bus.publish(sent)
        id = (await the_letter(letters)).id
    assert "hunter2" not in repr(await letters.get(ACME, id))
    await letters.requeue(ACME, id)
    assert (await bus.position(topology.COMMANDS)).last == 2


async def test_a_requeued_message_is_handled_and_its_letter_is_gone(
    bus: Bus, letters: DeadLetters
) -> None:
    healed = asyncio.Event()

    async def until_healed(order: Order, command: Message) -> None:
        if not healed.is_set():
            await fail(order, command)

    sent = command(1)
    async with working(bus, Worker(until_healed), ONCE) as worker:
        await bus.publish(sent)
        letter = await the_letter(letters)
        healed.set()
        await letters.requeue(ACME, letter.id)
        await eventually(lambda: worker.done == [1])
    assert worker.commands[-1] == sent
    assert (await letters.list(ACME)).items == []
    with pytest.raises(NotFound):
        await letters.requeue(ACME, letter.id)


async def test_a_requeued_message_that_fails_again_becomes_a_letter_again(
    bus: Bus, letters: DeadLetters
) -> None:
    async with working(bus, Worker(fail), ONCE) as worker:
        await bus.publish(command(1))
        for begun in (2, 3, 4):
            letter = await the_letter(letters)
            await eventually(partial(_is_settled, worker))
            await letters.requeue(ACME, letter.id)
            await eventually(partial(_has_begun, worker, begun))
        assert (await the_letter(letters)).id != letter.id


async def test_requeueing_twice_at_once_publishes_once(bus: Bus, letters: DeadLetters) -> None:
    async with working(bus, Worker(fail), ONCE):
        await bus.publish(command(1))
        letter = await the_letter(letters)
    before = (await bus.position(topology.COMMANDS)).last
    await asyncio.gather(
        *(letters.requeue(ACME, letter.id) for _ in range(3)), return_exceptions=True
    )
    assert (await bus.position(topology.COMMANDS)).last == before + 1


async def test_a_dropped_letter_is_gone(bus: Bus, letters: DeadLetters) -> None:
    async with working(bus, Worker(fail), ONCE):
        await bus.publish(command(1))
        letter = await the_letter(letters)
    await letters.drop(ACME, letter.id)
    for call in (letters.drop, letters.get, letters.requeue):
        with pytest.raises(NotFound):
            await call(ACME, letter.id)


async def test_letters_of_one_organisation_are_hidden_from_others(
    bus: Bus, letters: DeadLetters
) -> None:
    async with working(bus, Worker(fail), ONCE):
        await bus.publish(command(1, org="acme"))
        await bus.publish(command(1, org="other"))
        letter = await the_letter(letters, of=ACME)
        assert (await the_letter(letters, of=OTHER)).org == "other"
    for call in (letters.drop, letters.get, letters.requeue):
        with pytest.raises(NotFound):
            await call(OTHER, letter.id)
    assert (await letters.get(ACME, letter.id)).id == letter.id


async def test_an_order_to_a_node_belongs_to_the_organisation_in_its_data(
    bus: Bus, letters: DeadLetters
) -> None:
    writer = DeadLetterWriter(bus, lambda: AT, worker="w")
    whose = {"1": {"org": "acme"}, "2": {"org": 7}, "3": {}}
    for number, data in whose.items():
        order = Message(
            id=number, subject=topology.node_order("n1", "launch"), type="t", time=AT, data=data
        )
        stored = StoredEvent(int(number), order.subject, order.headers(), order.body(), AT)
        await writer.dead_letter(
            "YARD_NODES", stored, stage="node-n1", number=1, code="c", reason="r"
        )
    assert [letter.sequence for letter in (await letters.list(ACME)).items] == [1]
    assert [letter.sequence for letter in (await letters.list(HOME)).items] == [3, 2]


async def test_lists_are_newest_first_and_paged(bus: Bus, letters: DeadLetters) -> None:
    writer = DeadLetterWriter(bus, lambda: AT, worker="w")
    for number in range(1, 31):
        org = "acme" if number % 3 else "other"
        sent = command(number, org=org)
        stored = StoredEvent(number, sent.subject, sent.headers(), sent.body(), AT)
        await writer.dead_letter("YARD_COMMANDS", stored, stage="s", number=1, code="c", reason="r")

    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await letters.list(ACME, limit=8, cursor=cursor)
        seen += [letter.sequence for letter in page.items]
        assert all(letter.data is None for letter in page.items)
        if page.next is None:
            break
        cursor = page.next
    assert seen == [number for number in range(30, 0, -1) if number % 3]


@pytest.mark.parametrize("limit", [0, -1, 100_000])
async def test_a_limit_out_of_range_is_refused(letters: DeadLetters, limit: int) -> None:
    with pytest.raises(InvalidInput):
        await letters.list(ACME, limit=limit)


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1.0", "９", "9" * 40])
async def test_ids_and_cursors_that_are_not_ours_are_refused(
    letters: DeadLetters, text: str
) -> None:
    with pytest.raises(InvalidInput):
        await letters.list(ACME, cursor=text)
    with pytest.raises(NotFound):
        await letters.get(ACME, text)


async def test_a_payload_too_large_to_keep_is_cut_and_cannot_be_requeued(
    bus: Bus, letters: DeadLetters
) -> None:
    subject = topology.command("acme", "trial", "run")
    async with working(bus, Worker(), ONCE):
        await bus.publish_raw(subject, b"x" * (bus.max_payload - 400), {})
        letter = await the_letter(letters)
    assert letter.truncated
    with pytest.raises(Conflict):
        await letters.requeue(ACME, letter.id)
    await letters.drop(ACME, letter.id)


async def test_giving_up_twice_leaves_one_letter(bus: Bus, letters: DeadLetters) -> None:
    writer = DeadLetterWriter(bus, lambda: AT, worker="w")
    sent = command(1)
    stored = StoredEvent(1, sent.subject, sent.headers(), sent.body(), AT)
    for _ in range(2):
        await writer.dead_letter("YARD_COMMANDS", stored, stage="s", number=1, code="c", reason="r")
    assert len((await letters.list(ACME)).items) == 1


async def test_what_came_to_the_dead_letters_by_another_way_is_shown_as_it_is(
    bus: Bus, letters: DeadLetters
) -> None:
    await bus.publish_raw(topology.dead("yard.cmd.acme.trial.run"), b"{}", {})
    letter = await the_letter(letters)
    assert (letter.org, letter.code) == ("acme", "unknown")


async def test_a_message_that_nobody_acknowledges_is_given_up_on_the_brokers_word(
    bus: Bus, letters: DeadLetters
) -> None:
    plan = replace(TRIAL, ack_wait_s=0.2, max_deliver=2)
    await bus.prepare_stage(plan)
    sequence = await bus.publish(command(1))
    async with bus.pull(plan) as pull:
        for attempt in (1, 2):
            raw = await pull.next(1)
            assert raw is not None
            assert raw.metadata.num_delivered == attempt
        # Redelivery is found out while somebody asks.
        asking = asyncio.ensure_future(pull.next(1))
        async with working(
            bus, Worker(), replace(plan, durable="unused", subject="yard.cmd.*.a.b")
        ):
            letter = await the_letter(letters)
            await eventually(lambda: _queue_is_empty(bus))
        pull.end()
        await asking
    assert (letter.code, letter.attempts) == ("worker_lost", 2)
    assert (letter.stage, letter.sequence) == ("trial", sequence)
    await letters.requeue(ACME, letter.id)
    async with working(bus, Worker()) as worker:
        await eventually(lambda: worker.done == [1])


def _is_settled(worker: Worker) -> bool:
    return worker.count("buried") == len(worker.begun)


def _has_begun(worker: Worker, times: int) -> bool:
    return len(worker.begun) == times


async def _some(letters: DeadLetters, of: Any) -> bool:
    return bool((await letters.list(of)).items)


async def _queue_is_empty(bus: Bus) -> bool:
    info = await bus.client.jetstream().stream_info(topology.COMMANDS.name)
    return info.state.messages == 0
