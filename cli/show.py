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
    table = as_table(items, columns)
    if out.is_terminal:
        out.print(table)
    else:
        Console(file=out.file, width=WIDE).print(table)


def as_table(items: Sequence[Item], columns: Sequence[Column]) -> Table:
    """Nothing is cut, however narrow the terminal: ids stay whole, the rest goes on below."""
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
