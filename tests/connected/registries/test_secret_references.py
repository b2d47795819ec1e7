"""What uses a registry secret keeps it: entries of the directory and undeleted images."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.support.registries.registry_door import Door, P, entry

IN_USE = {"detail": "Secret is in use and cannot be deleted."}
GONE = {"detail": "Secret deleted successfully."}
SERVER = "registry.test:5000"
TURNS = 12


async def references(door: Door, secret: str) -> int:
    answer = await door.http.get(f"/accounts/secrets/{secret}/")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["reference_count"])


async def delete(door: Door, secret: str) -> httpx.Response:
    return await door.http.delete(f"/accounts/secrets/{secret}/")


async def is_refused(door: Door, secret: str) -> bool:
    answer = await delete(door, secret)
    return (answer.status_code, answer.json()) == (400, IN_USE)


async def image(door: Door, reference: str, **given: Any) -> str:
    """The uuid of an image whose registry cannot be reached: it is there all the same."""
    answer = await door.http.post("/yard/v1/images", json={"reference": reference, **given})
    assert answer.status_code in (201, 202), answer.text
    return str(answer.json()["uuid"])


async def test_entries_and_images_are_counted_together(door: Door) -> None:
    secret = await door.secret(SERVER)
    ids = [await door.create(secret=secret) for _ in range(2)]
    named = await image(door, f"{SERVER}/team/model:1", secret=secret)
    assert await references(door, secret) == 3
    listed = (await door.http.get("/accounts/secrets/")).json()["data"]
    assert [each["reference_count"] for each in listed] == [3]
    assert await is_refused(door, secret)
    for id in ids:
        await door.call("DELETE", f"/container_registry/{id}")
    assert await references(door, secret) == 1
    assert await is_refused(door, secret)
    await door.http.delete(f"/yard/v1/images/{named}", params={"wait": 30})
    assert await references(door, secret) == 0
    assert (await delete(door, secret)).json() == GONE


async def test_an_image_that_found_the_secret_by_its_host_counts_too(door: Door) -> None:
    secret = await door.secret(SERVER)
    await door.create(secret=secret)
    await image(door, f"{SERVER}/team/model:1")
    await image(door, "other.test:5000/team/model:1")
    assert await references(door, secret) == 2


async def test_another_organisations_entries_do_not_count(door: Door, other: Door) -> None:
    secret = await door.secret(SERVER)
    await other.create(secret=await other.secret(SERVER))
    assert await references(door, secret) == 0
    assert (await delete(door, secret)).json() == GONE


@pytest.mark.parametrize(
    "body",
    [{f"{P}secret": None}, {"$set": {f"{P}secret": None}}, {"$unset": {f"{P}secret": ""}}],
    ids=str,
)
async def test_an_entry_lets_go_of_its_secret(door: Door, body: Any) -> None:
    secret = await door.secret(SERVER)
    id = await door.create(secret=secret)
    document = await door.updated(id, body)
    assert document[f"{P}secret"] is None
    assert (await delete(door, secret)).json() == GONE


async def test_the_one_in_use_is_told_by_our_own_door_too(door: Door) -> None:
    secret = await door.secret(SERVER)
    await door.create(secret=secret)
    answer = await door.http.delete(f"/yard/v1/secrets/{secret}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_a_refused_entry_holds_nothing(door: Door) -> None:
    """Neither one that is invalid nor one whose id is taken."""
    secret = await door.secret(SERVER)
    await door.create(id="taken")
    for wrong in (entry(id="taken", secret=secret), entry(name=7, secret=secret)):
        answer = await door.call("POST", "/container_registry", json=wrong)
        assert answer.status_code in (400, 409)
    assert (await door.put("taken", {f"{P}secret": secret, f"{P}name": 7})).status_code == 400
    assert (await delete(door, secret)).json() == GONE


async def created(door: Door, secret: str) -> httpx.Response:
    return await door.call("POST", "/container_registry", json=entry(secret=secret))


async def changed(door: Door, secret: str) -> httpx.Response:
    id = f"plain-{uuid.uuid4()}"
    await door.create(id=id)
    return await door.put(id, {f"{P}secret": secret})


async def submitted(door: Door, secret: str) -> httpx.Response:
    body = {"reference": f"{SERVER}/team/model:1", "secret": secret}
    return await door.http.post("/yard/v1/images", json=body)


@pytest.mark.parametrize("refer", [created, changed, submitted])
async def test_no_race_leaves_a_reference_to_nothing(
    door: Door, refer: Callable[[Door, str], Awaitable[httpx.Response]]
) -> None:
    """Either the reference is made and the secret stays, or the secret goes and it is refused."""
    for turn in range(TURNS):
        secret = await door.secret(SERVER, f"secret-{turn}")
        made, *deleted = await asyncio.gather(
            refer(door, secret), *(delete(door, secret) for _ in range(3))
        )
        answers = sorted(answer.status_code for answer in deleted)
        if made.is_success:
            assert answers == [400] * 3
            assert await references(door, secret) == 1
        else:
            assert made.status_code in (400, 404), made.text
            # Who came while another deleted it may have found it in use, or gone already.
            assert answers.count(200) == 1
            assert set(answers) <= {200, 400, 404}
            assert (await door.http.get(f"/accounts/secrets/{secret}/")).status_code == 404
