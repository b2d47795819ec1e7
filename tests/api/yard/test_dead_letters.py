from __future__ import annotations

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from schemas.message import DeadLetter
from tests.support.http.front import Front, caller
from tests.support.records import AT

PATH = "/yard/v1/dead-letters"


@pytest.fixture
def letter(fake: Front) -> DeadLetter:
    letter = DeadLetter(
        id="7",
        org="acme",
        subject="yard.cmd.acme.image.validate",
        stage="image-validate",
        stream="YARD_COMMANDS",
        sequence=3,
        code="poison_message",
        reason="The body is not JSON.",
        attempts=6,
        time=AT,
        data_base64="e30=",
    )
    fake.dead_letters.letters["7"] = letter
    return letter


async def test_letters_are_listed_and_shown(letter: DeadLetter, http: AsyncClient) -> None:
    [listed] = (await http.get(PATH)).json()["items"]
    shown = (await http.get(f"{PATH}/7")).json()
    assert (listed["reason"], shown["attempts"]) == ("The body is not JSON.", 6)


async def test_the_whole_text_is_for_those_who_hold_its_own_permission(
    letter: DeadLetter, app: FastAPI, http: AsyncClient
) -> None:
    whole = await http.get(f"{PATH}/7/text")
    assert (whole.status_code, whole.json()["masked"]) == (200, False)
    assert whole.headers["cache-control"] == "no-store"
    for who in ("viewer", "member"):
        async with caller(app, who) as other:
            assert (await other.get(f"{PATH}/7")).json()["masked"] is True
            refused = await other.get(f"{PATH}/7/text")
            assert refused.status_code == 403
            assert "dead-letter:reveal" in refused.text


async def test_a_letter_is_requeued(fake: Front, letter: DeadLetter, http: AsyncClient) -> None:
    answer = await http.post(f"{PATH}/7/requeue")
    assert (answer.status_code, fake.dead_letters.requeued) == (202, ["7"])


async def test_a_letter_is_dropped(letter: DeadLetter, http: AsyncClient) -> None:
    answer = await http.delete(f"{PATH}/7")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await http.get(f"{PATH}/7")).status_code == 404
