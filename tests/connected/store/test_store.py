"""The store against a real MongoDB."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import (
    IllegalTransition,
    InvalidInput,
    LostRace,
    Misconfigured,
    NotFound,
    StoreUnavailable,
    TooLarge,
)
from schemas.base import Progress
from schemas.container import Container, Desired
from schemas.image import Image
from schemas.node import Node
from schemas.states import ImageStatus
from tests.support.records import AT, ORG, after, container, gpu, image, message, node


async def test_a_record_comes_back_as_it_was_inserted(store: Store) -> None:
    mine = image(outbox=[message()], labels={"a.b": "1", "$c": "2"}, image_labels={"x": "y"})
    assert await store.insert(mine) == mine
    assert await store.get(Image, mine.uuid, org=ORG) == mine


async def test_times_come_back_in_utc(store: Store) -> None:
    mine = await store.insert(image())
    found = await store.get(Image, mine.uuid, org=ORG)
    assert found.created_at == AT
    assert found.created_at.utcoffset() == after(0) - AT


async def test_every_call_stays_inside_its_organisation(store: Store) -> None:
    theirs = await store.insert(image(org="other"))
    with pytest.raises(NotFound):
        await store.get(Image, theirs.uuid, org=ORG)
    assert await store.find(Image, org=ORG) == []
    assert await store.find(Image, org=ORG, where={"org": "other"}) == []
    assert await store.find(Image, org=ORG, where={"$or": [{"org": "other"}]}) == []
    assert await store.find_one(Image, org=ORG, where={"_id": theirs.uuid}) is None
    assert await store.count(Image, org=ORG) == 0
    update = {"$set": {"size_bytes": 1}}
    assert await store.update(Image, theirs.uuid, org=ORG, guard={}, update=update) is None
    assert not await store.delete(Image, theirs.uuid, org=ORG)
    with pytest.raises(NotFound):
        await store.change(theirs.model_copy(update={"org": ORG}), {}, at=after(1))
    assert await store.get(Image, theirs.uuid, org="other") == theirs


async def test_every_org_sees_all(store: Store) -> None:
    await store.insert(image(org="other"))
    await store.insert(image())
    assert await store.count(Image, org=EVERY_ORG) == 2


async def test_an_id_that_is_a_query_is_refused(store: Store) -> None:
    await store.insert(image())
    with pytest.raises(InvalidInput):
        await store.get(Image, {"$gt": ""}, org=ORG)  # type: ignore[arg-type]


async def test_find_sorts_limits_and_skips(store: Store) -> None:
    made = [await store.insert(image(at=after(i))) for i in range(5)]
    newest = await store.find(Image, org=ORG, limit=2)
    assert newest == [made[4], made[3]]
    assert await store.find(Image, org=ORG, limit=2, skip=2) == [made[2], made[1]]
    assert await store.find(Image, org=ORG, sort=[("created_at", 1)], limit=1) == [made[0]]
    assert len(await store.find(Image, org=ORG, sort=[])) == 5


# --- guarded changes --------------------------------------------------------------------------


async def test_a_change_moves_the_record_and_says_so_in_one_write(store: Store) -> None:
    mine = await store.insert(image(outbox=[message("m1")]))
    changed = await store.change(
        mine,
        {"upload": Progress(done_bytes=5), "labels": {"a.b": "c"}},
        at=after(1),
        status=ImageStatus.VALIDATING,
        reason="looking",
        messages=[message("m2"), message("m3")],
    )
    assert changed == await store.get(Image, mine.uuid, org=ORG)
    assert changed.status is ImageStatus.VALIDATING
    assert (changed.revision, changed.updated_at, changed.status_since) == (2, after(1), after(1))
    assert (changed.reason, changed.labels) == ("looking", {"a.b": "c"})
    assert changed.upload.done_bytes == 5
    assert [each.id for each in changed.outbox] == ["m1", "m2", "m3"]


async def test_a_change_without_a_move_keeps_the_reason_and_since_when(store: Store) -> None:
    mine = await store.insert(image(status_since=AT, reason="because"))
    changed = await store.change(mine, {"digest": "sha256:1"}, at=after(1), status=mine.status)
    assert (changed.reason, changed.status_since, changed.revision) == ("because", AT, 2)
    assert (await store.change(changed, {}, at=after(2), reason=None)).reason is None


async def test_an_illegal_move_is_refused_and_nothing_is_written(store: Store) -> None:
    mine = await store.insert(image(status=ImageStatus.READY))
    with pytest.raises(IllegalTransition) as refused:
        await store.change(mine, {"digest": "x"}, at=after(1), status=ImageStatus.PENDING)
    assert refused.value.facts == {"status": "READY", "wanted": "PENDING"}
    assert await store.get(Image, mine.uuid, org=ORG) == mine


async def test_of_many_writers_of_one_revision_exactly_one_wins(store: Store) -> None:
    mine = await store.insert(image())
    answers = await asyncio.gather(
        *(store.change(mine, {"digest": f"{i}"}, at=after(i)) for i in range(16)),
        return_exceptions=True,
    )
    won = [answer for answer in answers if isinstance(answer, Image)]
    assert len(won) == 1
    assert all(isinstance(answer, Image | LostRace) for answer in answers)
    assert await store.get(Image, mine.uuid, org=ORG) == won[0]


async def test_writers_that_reload_after_a_lost_race_all_get_through(store: Store) -> None:
    mine = await store.insert(container())

    async def count_up() -> None:
        while True:
            latest = await store.get(Container, mine.uuid, org=ORG)
            try:
                await store.change(latest, {"restarts": latest.restarts + 1}, at=after(1))
            except LostRace:
                continue
            return

    await asyncio.gather(*(count_up() for _ in range(8)))
    final = await store.get(Container, mine.uuid, org=ORG)
    assert (final.restarts, final.revision) == (8, 9)


async def test_a_guard_that_does_not_hold_is_a_lost_race(store: Store) -> None:
    mine = await store.insert(container())
    guard = {"desired": Desired.STOPPED.value}
    with pytest.raises(LostRace):
        await store.change(mine, {}, at=after(1), guard=guard)


async def test_a_record_that_is_gone_is_not_found(store: Store) -> None:
    mine = await store.insert(image())
    assert await store.delete(Image, mine.uuid, org=ORG)
    assert not await store.delete(Image, mine.uuid, org=ORG)
    with pytest.raises(NotFound):
        await store.change(mine, {}, at=after(1))


@pytest.mark.parametrize(
    "field", ["status", "revision", "_id", "uuid", "org", "outbox", "updated_at", "no_such", "x.y"]
)
async def test_a_change_of_a_field_that_is_not_its_own_is_a_bug(store: Store, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        await store.change(image(), {field: 1}, at=after(1))


async def test_a_raw_update_happens_only_while_its_guard_holds(store: Store) -> None:
    mine = await store.insert(node(leased_cpus=1))
    free = {"leased_cpus": {"$lt": 3}}
    takes = [
        store.update(
            Node, mine.uuid, org=EVERY_ORG, guard=free, update={"$inc": {"leased_cpus": 1}}
        )
        for _ in range(8)
    ]
    taken = await asyncio.gather(*takes)
    assert len([each for each in taken if each is not None]) == 2
    final = await store.get(Node, mine.uuid, org=EVERY_ORG)
    assert (final.leased_cpus, final.revision) == (3, 1)


@pytest.mark.parametrize(
    "update", [{"$set": {"status": "LOST"}}, [{"$set": {"a": 1}}, {"$set": {"status": "LOST"}}]]
)
async def test_a_raw_update_never_touches_the_status(store: Store, update: object) -> None:
    with pytest.raises(ValueError, match="status"):
        await store.update(Node, "x", org=EVERY_ORG, guard={}, update=update)  # type: ignore[arg-type]


# --- values that MongoDB cannot hold ----------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{"labels": {"a\0b": "c"}}, {"size_bytes": 2**70}, {"reason": "\ud800"}]
)
async def test_a_value_that_cannot_be_stored_is_the_callers_mistake(
    store: Store, values: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        await store.insert(image(**values))


async def test_a_record_that_is_too_large_says_so(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.insert(image(labels={"x": "y" * 17_000_000}))


async def test_a_record_of_a_newer_version_is_left_to_it(store: Store) -> None:
    mine = await store.insert(image())
    update = {"$set": {"size_bytes": "a secret"}}
    with pytest.raises(StoreUnavailable) as refused:
        await store.update(Image, mine.uuid, org=ORG, guard={}, update=update)
    assert "size_bytes" in refused.value.message
    assert "a secret" not in refused.value.message
    assert refused.value.__cause__ is None


# --- the outbox -------------------------------------------------------------------------------


async def test_a_sent_message_leaves_the_outbox_and_nothing_else_changes(store: Store) -> None:
    mine = await store.insert(image(outbox=[message("m1"), message("m2"), message("m3")]))
    await store.clear_outbox(Image, {mine.uuid: ["m1", "m3"]})
    await store.clear_outbox(Image, {mine.uuid: ["m1"]})
    found = await store.get(Image, mine.uuid, org=ORG)
    assert found == mine.model_copy(update={"outbox": [message("m2")]})


async def test_messages_of_many_records_are_taken_out_together(store: Store) -> None:
    one = await store.insert(image(outbox=[message("m1"), message("m2")]))
    other = await store.insert(image(outbox=[message("m3")]))
    untouched = await store.insert(image(outbox=[message("m4")]))
    await store.clear_outbox(Image, {one.uuid: ["m1"], other.uuid: ["m3"]})
    left = [await store.get(Image, each.uuid, org=ORG) for each in (one, other, untouched)]
    assert [[sent.id for sent in each.outbox] for each in left] == [["m2"], [], ["m4"]]


async def test_only_messages_of_some_age_are_unsent(store: Store) -> None:
    await store.insert(image())
    old = await store.insert(image(outbox=[message("m1", at=AT), message("m2", at=after(60))]))
    await store.insert(image(outbox=[message("m3", at=after(60))]))
    assert await store.unsent(Image, before=after(30), limit=10) == [old]
    assert await store.unsent(Image, before=AT, limit=10) == []
    assert len(await store.unsent(Image, before=after(90), limit=1)) == 1


# --- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "database"), [("http://x", "db"), ("mongodb://", "db"), ("mongodb://h", "a b")]
)
async def test_a_wrong_address_names_the_setting(url: str, database: str) -> None:
    with pytest.raises(Misconfigured, match="MODELYARD_MONGO_URL"):
        async with Store.open(url, database):
            pass


async def test_wrong_credentials_name_the_setting(mongo_url: str) -> None:
    wrong = mongo_url.replace("test-password", "wrong")
    async with Store.open(wrong, "x") as store:
        with pytest.raises(Misconfigured, match="credentials") as refused:
            await store.ping()
    assert "wrong" not in refused.value.message


async def test_gpus_of_a_node_come_back(store: Store) -> None:
    mine = await store.insert(node("one", gpu("GPU-1"), held={"a.b/$0": "c"}))
    assert await store.get(Node, mine.uuid, org=EVERY_ORG) == mine
