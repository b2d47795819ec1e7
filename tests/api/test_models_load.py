"""How long whoever asks for a load test is kept, and what for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.models_load import _finished
from pipeline.core.event_hub import EventHub
from pipeline.core.event_watches import Watches
from pipeline.errors import Conflict
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
    yard = SimpleNamespace(model=SimpleNamespace(versions=SimpleNamespace(get=get)))
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
