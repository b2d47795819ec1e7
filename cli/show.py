"""How the command line shows records: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.client import out

Item = dict[str, Any]
Column = tuple[str, Callable[[Item], Any]]

ID = "ID"
"""The title of columns that people copy from."""
WIDE = 10_000
"""Columns of what is no terminal: programs that read lines want a record on one."""
FOLDED = 20
"""Characters of a column that is folded, at the least."""

_COLOURS = {
    "READY": "green",
    "RUNNING": "green",
    "FAILED": "red",
    "LOST": "red",
    "UNHEALTHY": "yellow",
    "RESTARTING": "yellow",
}


def json_or_table(items: Sequence[Item], columns: Sequence[Column], *, as_json: bool) -> None:
    if as_json:
        as_document(list(items))
        return
    if not out.is_terminal:
        Console(file=out.file, width=WIDE).print(as_table(items, columns))
    else:
        show_in(out, items, columns)


def show_in(terminal: Console, items: Sequence[Item], columns: Sequence[Column]) -> None:
    """Nothing is cut, however narrow the terminal: what makes no table there is a list."""
    if least_width(items, columns) <= terminal.width:
        terminal.print(as_table(items, columns))
    else:
        terminal.print(as_list(items, columns), soft_wrap=True)


def least_width(items: Sequence[Item], columns: Sequence[Column]) -> int:
    """Of a table that can be read: IDs are whole, other columns not narrower than `FOLDED`."""
    width = 2 * (len(columns) - 1)
    for title, value in columns:
        widest = max([len(title), *(_cell(value(item)).cell_len for item in items)])
        width += widest if title == ID else min(widest, FOLDED)
    return width


def as_list(items: Sequence[Item], columns: Sequence[Column]) -> Text:
    """A paragraph for each record, a line for each of its values; for none, the titles."""
    if not items:
        return Text(" ".join(title for title, _ in columns), style="bold")
    longest = max(len(title) for title, _ in columns)
    return Text("\n\n").join(_paragraph(item, columns, longest) for item in items)


def _paragraph(item: Item, columns: Sequence[Column], longest: int) -> Text:
    cells = [(title, _cell(value(item))) for title, value in columns]
    return Text("\n").join(
        Text.assemble((title.ljust(longest), "bold"), "  ", cell) for title, cell in cells if cell
    )


def as_table(items: Sequence[Item], columns: Sequence[Column]) -> Table:
    """IDs stay whole; where it is narrow, the rest goes on below."""
    rows = [[_cell(value(item)) for _, value in columns] for item in items]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, (title, _) in enumerate(columns):
        widest = max((row[number].cell_len for row in rows), default=0)
        if title == ID:
            table.add_column(title, no_wrap=True, min_width=widest)
        else:
            table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def as_document(value: Any) -> None:
    """Plain JSON without colours or wrapping, so that it can be piped."""
    print(json.dumps(value, indent=2))


def field(name: str) -> Callable[[Item], Any]:
    """A value by its dotted path; empty where the path ends early."""

    def read(item: Item) -> Any:
        value: Any = item
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    return read


def age(name: str) -> Callable[[Item], str]:
    def read(item: Item) -> str:
        text = field(name)(item)
        if not text:
            return ""
        seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
            if seconds >= size:
                return f"{seconds // size:.0f}{unit}"
        return f"{max(0, seconds):.0f}s"

    return read


def size(name: str) -> Callable[[Item], str]:
    def read(item: Item) -> str:
        value = field(name)(item)
        return "" if value is None else human_bytes(value)

    return read


def human_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _cell(value: Any) -> Text:
    text = "" if value is None else str(value)
    return Text(text, style=_COLOURS.get(text, ""))
