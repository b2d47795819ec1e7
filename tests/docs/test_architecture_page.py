"""The diagrams and tables of the architecture are those of the code, and so are its paths."""

from __future__ import annotations

import re

import pytest

from pipeline import topology
from schemas import states
from schemas.base import Transitions
from tests.support.floors import FLOORS
from tests.support.sources import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()
TABLES: dict[str, Transitions] = {
    "Image": states.IMAGE_TRANSITIONS,
    "Upload": states.UPLOAD_TRANSITIONS,
    "Node": states.NODE_TRANSITIONS,
    "Container": states.CONTAINER_TRANSITIONS,
    "Build": states.BUILD_TRANSITIONS,
    "Volume": states.VOLUME_TRANSITIONS,
    "Deployment": states.DEPLOYMENT_TRANSITIONS,
    "Organisation": states.ORGANISATION_TRANSITIONS,
    "Webhook": states.WEBHOOK_TRANSITIONS,
    "WebhookDelivery": states.DELIVERY_TRANSITIONS,
}
every_table = pytest.mark.parametrize("resource", TABLES)


def drawn(resource: str) -> set[tuple[str, str]]:
    (diagram,) = re.findall(rf"state {resource} \{{\n(.*?)\n  \}}", TEXT, re.S)
    return set(re.findall(r"^ +([A-Z_]+) --> ([A-Z_]+)", diagram, re.M))


def test_every_table_of_states_is_drawn() -> None:
    tables = {id(value) for name, value in vars(states).items() if name.endswith("_TRANSITIONS")}
    assert tables == {id(table) for table in TABLES.values()}


@every_table
def test_every_state_is_drawn_and_no_move_that_is_not_allowed(resource: str) -> None:
    table = TABLES[resource]
    assert {state for move in drawn(resource) for state in move} == set(table)
    assert drawn(resource) <= {(a, b) for a, after in table.items() for b in after}


@pytest.mark.parametrize("resource", ["Image", "Upload", "Node"])
def test_no_move_but_deletions_is_left_out(resource: str) -> None:
    allowed = {(a, b) for a, after in TABLES[resource].items() for b in after}
    assert {move for move in allowed - drawn(resource) if move[1] != "DELETED"} == set()


def test_every_stream_is_listed_with_what_it_keeps() -> None:
    section = TEXT.partition("## Streams")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)`(.*)\|$", section, re.M))
    assert set(rows) == {stream.name for stream in topology.STREAMS}
    for stream in topology.STREAMS:
        days = stream.max_age_s // topology.DAY_S
        kept = f"{days} day" if days else "until done"
        assert kept in rows[stream.name]
        assert ("work queue" in rows[stream.name]) is stream.work_queue


def test_the_floors_are_those_that_the_tests_enforce() -> None:
    section = TEXT.partition("## Who may import whom")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \|((?: `[\w/]+`)+) \|", section, re.M)
    listed = {
        name: int(floor) for floor, names in rows for name in re.findall(r"`([\w/]+)`", names)
    }
    assert listed == FLOORS


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_files_that_it_names_exist(page: str) -> None:
    folders = r"(?:schemas|pipeline|workers|api|cli|tests|deploy)"
    for name in re.findall(rf"`({folders}/[\w./-]*)`", (ROOT / page).read_text()):
        assert (ROOT / name).exists(), name
