from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli import containers, images
from cli.show import as_table, json_or_table
from tests.support import records as made

REASON = "No node can run it: change what it asks for or add a node with more GPUs. " * 3


def an_image() -> dict[str, object]:
    name = "registry.example.com:5000/a-team/with-a-long-name/classifier:2026-01-01"
    return dict(made.image(name=name, reference=name, reason=REASON).model_dump(mode="json"))


def shown(width: int, *items: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(as_table(items, images.COLUMNS))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_ids_are_whole_in_terminals_of_any_width(width: int) -> None:
    items = [an_image() for _ in range(3)]
    lines = shown(width, *items).splitlines()
    for item in items:
        assert any(line.startswith(f"{item['uuid']} ") for line in lines)


def test_nothing_is_cut_in_a_terminal_that_is_usual() -> None:
    item = an_image()
    text = shown(120, item)
    assert "…" not in text
    squeezed = "".join(text.split())
    assert len(squeezed) >= sum(len(str(item[field])) for field in ("uuid", "name")) + len(
        "".join(REASON.split())
    )


def test_what_is_no_terminal_gets_a_record_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    item = made.container(name="c", reason=REASON).model_dump(mode="json")
    json_or_table([item], containers.COLUMNS, as_json=False)
    [heads, line] = capsys.readouterr().out.splitlines()
    assert heads.startswith("ID ")
    assert line.startswith(item["uuid"])
    assert REASON.strip() in line


def test_an_empty_list_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    json_or_table([], images.COLUMNS, as_json=False)
    assert capsys.readouterr().out.split() == [title for title, _ in images.COLUMNS]
