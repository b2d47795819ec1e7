"""How long whoever asks for a load test is kept, and what for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.models.bodies import wrapped
from api.models.routes import _finished
from pipeline.errors import Conflict
from pipeline.events.hub import EventHub, Watches
from schemas.model import LoadTest, ModelVersion, Phase
from tests.support.records import AT


def version(image: str, load: str, phase: Phase) -> ModelVersion:
    return ModelVersion(
        uuid="version",
        org="org",
        created_at=AT,
        updated_at=AT,
        model="abcdefghij",
        model_name="x",
        version="1.0.0",
        image=image,
        load=LoadTest(id=load, phase=phase, image=image),
    )


async def kept(*looks: ModelVersion) -> ModelVersion:
    """What comes out when each look at the version shows the next of `looks`."""
    watches, shown = Watches(), iter(looks[1:])

    async def get(*_: object) -> ModelVersion:
        asyncio.get_running_loop().call_soon(watches.wake, KEY)
        return next(shown)

    async def is_there() -> bool:
        return False

    asyncio.get_running_loop().call_soon(watches.wake, KEY)
    hub = SimpleNamespace(draining=False, watch=lambda *_: watches.watch(KEY))
    yard = SimpleNamespace(models=SimpleNamespace(versions=SimpleNamespace(get=get)))
    stands_in: Any = SimpleNamespace(is_disconnected=is_there)
    caller: Any = SimpleNamespace(org="org")
    return await _finished(looks[0], stands_in, caller, cast(Any, yard), cast(EventHub, hub))


KEY = ("org", "image", "image")


async def test_a_test_that_was_begun_anew_before_we_looked_counts() -> None:
    begun = version("image", "first", Phase.RUNNING)
    anew = version("image", "second", Phase.RUNNING)
    ended = version("image", "second", Phase.SUCCEEDED)
    assert await kept(begun, anew, ended) is ended


async def test_the_test_of_an_image_that_counts_no_more_is_void() -> None:
    with pytest.raises(Conflict, match="Another image"):
        await kept(version("image", "first", Phase.RUNNING), version("newer", "", Phase.NONE))


def test_what_a_model_says_of_its_body_or_of_a_repeat_is_not_said_of_ours() -> None:
    told = {b"x-request-cost": b"3", b"x-text": b"caf\xe9", b"server": b"own"}
    not_told = {
        b"retry-after": b"7", b"content-length": b"9", b"content-encoding": b"gzip",
        b"etag": b"a", b"set-cookie": b"a=b", b"connection": b"close", b"location": b"/away",
    }  # fmt: skip
    answer = wrapped({"output": 1}, [*told.items(), *not_told.items()], cookies=False)
    ours = {b"content-length": b"13", b"content-type": b"application/json"}
    assert dict(answer.raw_headers) == told | ours
    with_cookies = wrapped({}, [*not_told.items()], cookies=True)
    assert with_cookies.headers["set-cookie"] == "a=b"
