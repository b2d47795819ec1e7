"""Pages of a real collection."""

from __future__ import annotations

import pytest

from pipeline.adapters.store.store import EVERY_ORG, Store
from pipeline.errors import InvalidInput
from pipeline.records.queries import MOST, cursor_of, page
from schemas.image import Image
from tests.support.records import ORG, after, image


async def everything(store: Store, limit: int, **where: object) -> list[list[Image]]:
    pages, cursor = [], None
    while True:
        found = await page(store, Image, org=ORG, where=where, limit=limit, cursor=cursor)
        pages.append(found.items)
        if found.next is None:
            return pages
        cursor = found.next


async def test_pages_hold_everything_once_newest_first(store: Store) -> None:
    # Several of one millisecond: the id decides between them.
    made = [await store.insert(image(at=after(number // 3))) for number in range(10)]
    pages = await everything(store, 4)
    assert [len(each) for each in pages] == [4, 4, 2]
    found = [each.uuid for items in pages for each in items]
    newest_first = sorted(made, key=lambda each: (each.created_at, each.uuid), reverse=True)
    assert found == [each.uuid for each in newest_first]


async def test_the_last_page_has_no_next_also_when_it_is_full(store: Store) -> None:
    for number in range(4):
        await store.insert(image(at=after(number)))
    assert [len(each) for each in await everything(store, 2)] == [2, 2]
    assert await everything(store, 5, name="nobody") == [[]]


async def test_what_comes_and_goes_neither_repeats_nor_hides_the_others(store: Store) -> None:
    made = [await store.insert(image(at=after(number))) for number in range(6)]
    first = await page(store, Image, org=ORG, limit=2)
    await store.insert(image(at=after(100)))
    await store.delete(Image, made[4].uuid, org=ORG)
    await store.delete(Image, made[3].uuid, org=ORG)
    second = await page(store, Image, org=ORG, limit=2, cursor=first.next)
    assert [*first.items, *second.items] == [made[5], made[4], made[2], made[1]]


async def test_a_filter_holds_on_every_page(store: Store) -> None:
    for number in range(6):
        await store.insert(image(at=after(number), name="even" if number % 2 == 0 else "odd"))
    pages = await everything(store, 2, name="even", **{"$or": [{"status": "PENDING"}]})
    assert [[each.name for each in items] for items in pages] == [["even", "even"], ["even"]]


async def test_a_cursor_of_another_organisation_opens_nothing(store: Store) -> None:
    theirs = await store.insert(image(org="other", at=after(5)))
    await store.insert(image(org="other"))
    assert (await page(store, Image, org=ORG, limit=5, cursor=cursor_of(theirs))).items == []
    assert len((await page(store, Image, org=EVERY_ORG, limit=5)).items) == 2


BAD = ["1", "a-b", "1-", "-1-x", "9" * 15 + "-x", "1-" + "x" * 200, "1-x\n", "x", "\u00e9", "!!"]


@pytest.mark.parametrize("cursor", BAD)
async def test_a_cursor_that_we_did_not_give_out_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await page(store, Image, org=ORG, limit=1, cursor=cursor)
    assert refused.value.facts == {"field": "cursor"}


@pytest.mark.parametrize("limit", [0, -1, MOST + 1])
async def test_a_limit_has_limits(store: Store, limit: int) -> None:
    with pytest.raises(InvalidInput, match=f"{MOST}"):
        await page(store, Image, org=ORG, limit=limit)
