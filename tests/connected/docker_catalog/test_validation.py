"""What workers find out about images of the catalogue."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from schemas.image import Image
from schemas.registries.catalog import CatalogEntry
from schemas.states import ImageStatus
from tests.support import records as made
from tests.support.engines.engine import free_port
from tests.support.events import stored_events
from tests.support.registries.catalog_door import CatalogDoor
from tests.support.registries.locked_registry import PASSWORD, USER
from tests.support.waiting import eventually

SETTLED = {"READY", "FAILED"}
LOGIN = {"registry_username": USER, "registry_password": PASSWORD}


async def validated(door: CatalogDoor, pk: int, revision: int = 1) -> dict[str, Any]:
    """The validation of this revision, once it is over."""
    async with asyncio.timeout(60):
        while True:
            answer = await door.http.get(f"/yard/v1/catalog/{pk}")
            known: dict[str, Any] = answer.json()["validation"]
            if known["status"] in SETTLED and known["revision"] == revision:
                return known
            await asyncio.sleep(0.1)


async def test_an_image_is_proved_with_the_credentials_of_its_entry(
    door: CatalogDoor, locked_host: str
) -> None:
    right = {"url": f"{locked_host}/team/model:1", "registry_url": f"http://{locked_host}"}
    pk = (await door.create(**right, **LOGIN))["pk"]
    found = await validated(door, pk)
    assert (found["status"], found["code"]) == ("READY", None)
    assert found["digest"].startswith("sha256:")
    assert "cuda_undeclared" in [each["code"] for each in found["findings"]]
    shown = (await door.http.get(f"/yard/v1/catalog/{pk}")).json()
    assert (shown["revision"], shown["image"]["registry_password"]) == (1, None)
    assert (await door.call("GET", f"/docker/{pk}")).headers["etag"] == '"1"'
    for change, code in (
        ({"registry_password": "wrong"}, "denied"),
        ({"registry_password": PASSWORD, "url": f"{locked_host}/team/model:9"}, "not_found"),
        ({"url": f"{locked_host}/Team"}, "invalid_reference"),
        ({"url": "elsewhere.test/team/model:1"}, "registry_mismatch"),
    ):
        answer = await door.call("PATCH", f"/docker/{pk}", json=change)
        revision = int(answer.headers["etag"].strip('"'))
        found = await validated(door, pk, revision)
        assert (found["status"], found["code"]) == ("FAILED", code), found
    told = [event async for event in stored_events(door.services.bus, door.org)]
    kinds = [event.subject.split(".")[5] for event in told if f".catalog.{pk}." in event.subject]
    assert kinds == ["created", "validated", *["updated", "validated"] * 4]
    assert not any(PASSWORD.encode() in event.data for event in told)


async def test_an_image_of_the_same_reference_is_proved_with_the_credentials_of_the_entry(
    door: CatalogDoor, others: CatalogDoor, locked_host: str
) -> None:
    url = f"{locked_host}/team/model:1"
    pk = (await door.create(url=url, registry_url=locked_host, **LOGIN))["pk"]
    assert (await validated(door, pk))["status"] == "READY"
    assert await proved(door, url) == ImageStatus.READY
    assert await proved(others, url) == ImageStatus.FAILED


async def proved(door: CatalogDoor, url: str) -> str:
    """The status of an image that somebody brings without a secret."""
    made = (await door.http.post("/yard/v1/images", json={"reference": url})).json()
    shown: dict[str, Any] = {}

    async def is_over() -> bool:
        shown.update((await door.http.get(f"/yard/v1/images/{made['uuid']}")).json())
        return bool(shown["status"] in SETTLED)

    await eventually(is_over, timeout_s=60)
    return str(shown["status"])


async def test_a_registry_that_cannot_be_reached_is_asked_again_later_each_time(
    door: CatalogDoor, locked_host: str
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    pk = (await door.create(url=f"{nobody}/team/model:1", registry_url=nobody))["pk"]
    seen: set[str | None] = {None}
    for attempt, wait_s in ((1, 30), (2, 60), (3, 120)):
        await give_up_on_image(door, pk, seen)
        found = await validated(door, pk)
        assert (found["status"], found["code"]) == ("FAILED", "unreachable")
        assert nobody in found["detail"]
        entry = await stored(door, pk)
        assert entry.validation.checked_at is not None
        assert entry.attempts == attempt
        assert entry.retry_at == entry.validation.checked_at + timedelta(seconds=wait_s)
        await door.services.catalog.validation.sweep()
        assert (await stored(door, pk)).retry_at == entry.retry_at
        await written(door, pk, retry_at=door.services.records.clock() - timedelta(seconds=1))
        await door.services.catalog.validation.sweep()
    right = {"url": f"{locked_host}/team/model:1", "registry_url": locked_host, **LOGIN}
    answer = await door.call("PATCH", f"/docker/{pk}", json=right)
    assert answer.headers["etag"] == '"2"'
    assert (await validated(door, pk, 2))["status"] == "READY"
    assert (await stored(door, pk)).retry_at is None


async def give_up_on_image(door: CatalogDoor, pk: int, seen: set[str | None]) -> None:
    """Whoever brings an image waits a minute for its registry: that minute is over for the next
    one that is brought for the entry."""

    async def is_brought() -> bool:
        return (await stored(door, pk)).image not in seen

    await eventually(is_brought, timeout_s=60)
    seen.add(image := (await stored(door, pk)).image)
    long_ago = {"$set": {"created_at": door.services.records.clock() - timedelta(hours=1)}}
    store = door.services.records.store
    assert await store.update(Image, str(image), org=door.org, guard={}, update=long_ago)


async def stored(door: CatalogDoor, pk: int) -> CatalogEntry:
    return await door.services.records.store.get(CatalogEntry, str(pk), org=door.org)


async def written(door: CatalogDoor, pk: int, **values: Any) -> None:
    update = {"$set": values}
    store = door.services.records.store
    assert await store.update(CatalogEntry, str(pk), org=door.org, guard={}, update=update)


async def test_what_is_found_out_about_an_older_revision_is_dropped(door: CatalogDoor) -> None:
    pk = (await door.create())["pk"]
    await validated(door, pk)
    older = made.image(org=door.org, status="READY", catalog=pk)
    await door.services.records.store.insert(older)
    await written(door, pk, image=older.uuid)
    await door.call("PATCH", f"/docker/{pk}", json={"url": "x y"})
    newer = await validated(door, pk, 2)
    await door.services.catalog.validation.validate(door.org, str(pk), edition=1)
    # Another image was brought for the new revision.
    await written(door, pk, image="another")
    await door.services.catalog.validation.settle(door.org, str(pk), older.uuid)
    assert await validated(door, pk, 2) == newer
    assert await door.kinds(pk) == ["created", "validated", "updated", "validated"]
