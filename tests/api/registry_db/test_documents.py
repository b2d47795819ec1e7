"""The envelope of the registry directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from api.registry_db.documents import BREATH_BYTES, success, success_page


async def test_a_page_looks_like_any_other_success() -> None:
    for documents in ([], [{"a": 1}], [{"a": "ü"}, {"b": [None, 1.5, True]}]):
        page = await success_page(documents, {"X-Total-Count": "7"})
        plain = success(documents, headers={"X-Total-Count": "7"})
        assert (page.status_code, page.body) == (200, plain.body)
        assert page.raw_headers == plain.raw_headers


async def test_others_have_their_turn_while_a_large_page_is_written() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    seen: list[int] = []

    def documents() -> Iterator[dict[str, Any]]:
        for _ in range(5):
            seen.append(turns)
            yield {"text": "x" * BREATH_BYTES}

    counting = asyncio.create_task(count())
    page = await success_page(documents(), {})
    counting.cancel()
    assert len(json.loads(page.body)["data"]) == 5
    assert len(set(seen)) == 5
