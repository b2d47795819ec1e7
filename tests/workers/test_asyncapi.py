"""The document of messages is the code's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import topology
from schemas.commands import COMMANDS
from workers.asyncapi import EVENTS, PLACE, REJECTIONS, asyncapi, written


def test_the_committed_document_is_what_the_code_says() -> None:
    assert PLACE.read_text() == written(asyncapi()), "run `python -m workers.asyncapi`"


def test_every_stage_is_described_with_its_subject_and_payload() -> None:
    document = asyncapi()
    addresses = {channel["address"] for channel in document["channels"].values()}
    expected = {plan.subject.replace("*", "{org}") for plan in topology.STAGES}
    assert addresses == expected | {EVENTS, REJECTIONS}
    for key, shape in COMMANDS.items():
        plan = next(plan for plan in topology.STAGES if plan.subject.endswith(f".{key}"))
        payload = document["components"]["messages"][plan.durable]["payload"]
        assert payload["$ref"].endswith(f"/{shape.__name__}"), "what its stage reads, is its shape"
    for message in document["components"]["messages"].values():
        name = message["payload"]["$ref"].rsplit("/", 1)[-1]
        assert document["components"]["schemas"][name]["properties"]
    actions = {operation["action"] for operation in document["operations"].values()}
    assert actions == {"receive", "send"}


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_document_does_not_depend_on_the_order_of_hashes(tmp_path: Path, seed: str) -> None:
    place = tmp_path / "asyncapi.json"
    subprocess.run(
        [sys.executable, "-m", "workers.asyncapi", str(place)],
        check=True,
        cwd=PLACE.parents[2],
        env=os.environ | {"PYTHONHASHSEED": seed},
    )
    assert place.read_text() == PLACE.read_text()
