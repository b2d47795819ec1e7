from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli.commands import containers, images
from cli.console import Wide, json_or_table, show_in
from tests.support import records as made

REASON = "No node can run it: change what it asks for or add a node with more GPUs. " * 3


def an_image() -> dict[str, object]:
    name = "registry.example.com:5000/a-team/with-a-long-name/classifier:2026-01-01"
    return dict(made.image(name=name, reference=name, reason=REASON).model_dump(mode="json"))


def shown(width: int, *items: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show_in(console, items, images.COLUMNS)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 120, 200])
def test_nothing_is_cut_in_terminals_of_any_width(width: int) -> None:
    item = an_image()
    text = shown(width, item, an_image())
    assert "…" not in text
    assert str(item["uuid"])[:8] in text
    squeezed = "".join(text.split())
    wanted = "".join(str(item[name]) for name in ("name", "reason"))
    assert len(squeezed) >= 2 * len("".join(wanted.split()))


def test_a_wide_terminal_shows_a_table() -> None:
    items = [an_image(), an_image()]
    lines = shown(100, *items).splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATUS", "AGE", "REASON"], "others are empty"
    for item in items:
        assert any(line.startswith(f"{str(item['uuid'])[:8]} ") for line in lines)


def test_a_narrow_terminal_shows_a_value_on_each_line() -> None:
    first, second = an_image(), an_image()
    one, two = shown(40, first, second).split("\n\n")
    assert one.splitlines()[0] == f"ID      {first['uuid']}"
    assert f"REASON  {REASON}" in one
    assert "PLATFORM" not in one, "it has none"
    assert two.startswith(f"ID      {second['uuid']}")


NOT_WIDE = [title for title, read in images.COLUMNS if not isinstance(read, Wide)]


def test_an_empty_list_in_a_narrow_terminal_shows_its_columns() -> None:
    assert shown(20).split() == NOT_WIDE


def test_what_is_no_terminal_gets_a_record_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    item = made.container(name="c", reason=REASON).model_dump(mode="json")
    json_or_table([item], containers.COLUMNS, as_json=False)
    [heads, line] = capsys.readouterr().out.splitlines()
    assert heads.startswith("ID ")
    assert line.startswith(item["uuid"])
    assert REASON.strip() in line


def test_an_empty_list_shows_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    json_or_table([], images.COLUMNS, as_json=False)
    assert capsys.readouterr().out.split() == NOT_WIDE
