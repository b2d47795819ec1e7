"""The page about events: its tables are the code's, its examples work, and its kinds are all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from schemas.events import KINDS, REJECTED
from tests.support import pages
from tests.support.archives.image_archives import docker_archive
from tests.support.archives.images import busybox_image
from tests.support.event_tables import BEGIN, event_tables
from tests.support.events import stored_events
from tests.support.sources import ROOT, modules
from tests.support.systems.yard import Yard

PAGE = ROOT / "docs" / "events.md"


def test_the_tables_of_events_are_complete_and_true() -> None:
    """`python -m tests.support.documents` writes them anew."""
    assert PAGE.read_text().partition(BEGIN)[2].lstrip() == event_tables()


def test_every_kind_that_the_code_names_is_listed() -> None:
    named = {
        node.args[0].value
        for module in modules("pipeline")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "event"
        and isinstance(node.args[0], ast.Constant)
    }
    listed = {kind for kinds in KINDS.values() for kind in kinds}
    assert len(named) > 20
    assert named <= listed


@pytest.mark.timeout(pages.DEADLINE_S + 40)
async def test_every_example_about_events_works_and_nothing_else_was_told(
    yard: Yard, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar"
    archive.write_bytes(docker_archive(busybox_image(), "team/model:1"))
    pages.run(PAGE, yard.state.folder, ARCHIVE=str(archive))
    async with Bus.open(yard.env["MODELYARD_NATS_URL"], name="test") as bus:
        told = [topology.parse_event(event.subject) async for event in stored_events(bus, None)]
    kinds = {(subject.resource, subject.kind) for subject in told}
    known = {(resource, kind) for resource, kinds in KINDS.items() for kind in (*kinds, REJECTED)}
    assert kinds - known == set()
