"""What every command reads and writes: its streams, sentences, exit codes, tables and JSON."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from typing import IO, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console()
err = Console(stderr=True)

FAILED, USAGE, MISSING, DENIED, UNREACHABLE = 1, 2, 3, 4, 5
"""Exit codes. 0 is success; 2 is what typer uses for wrong arguments."""
INTERRUPTED = 130

Part = str | tuple[str, str]


def echo(console: Console, *parts: Part) -> None:
    """Parts on one line, as they are or each with its style.

    For what servers and people wrote: it is neither read as markup nor broken into lines.
    """
    console.print(Text.assemble(*parts), soft_wrap=True, highlight=False)


def refuse(what: str, more: str = "", *, code: int = USAGE) -> NoReturn:
    """Exit with what is wrong, in red, and `more`: how that sentence ends, or what to do."""
    gap = " " if more and more[0] not in ":," else ""
    echo(err, (what, "red"), gap + more)
    raise typer.Exit(code)


def for_each(names: Sequence[str], act: Callable[[str], str]) -> None:
    """Do it for all of them, and say what became of each; `act` returns that, or exits.

    Exits, once all are through, with the code of the first that exited.
    """
    codes = []
    for name in names:
        begun = f"{name}: " if len(names) > 1 else ""
        try:
            echo(err, begun + act(name))
        except typer.Exit as failed:
            codes.append(failed.exit_code)
            if begun:
                echo(err, f"{begun}not done, see above")
    if codes:
        raise typer.Exit(codes[0])


def standard_input() -> IO[bytes]:
    """The bytes of standard input. Exits when the command was started without one."""
    if sys.stdin is None:
        refuse("Standard input is closed.", "Pipe into it what is to be read.")
    return sys.stdin.buffer


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""Of commands that print records; they get `--output`, too (`add_formats`)."""
AsJsonOrTable = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
OnlyJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""Of commands whose output is no table of records."""


class Format(StrEnum):
    """Of records that are printed."""

    JSON = "json"
    WIDE = "wide"
    NAME = "name"


Output = Annotated[
    Format | None,
    typer.Option(
        "--output", "-o", help="wide: with more columns; name: only what a record is called by."
    ),
]
FORMAT: ContextVar[Format | None] = ContextVar("FORMAT", default=None)
"""The one that was asked for."""


def add_formats(app: typer.Typer) -> None:
    """Gives `--output` to all commands with `--json`, here and below."""
    for each in app.registered_commands:
        if each.callback is not None:
            each.callback = _with_output(each.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_formats(group.typer_instance)


def _with_output(command: Callable[..., Any]) -> Callable[..., Any]:
    own = inspect.signature(command, eval_str=True)
    if getattr(own.parameters.get("as_json"), "annotation", None) not in (AsJson, AsJsonOrTable):
        return command

    @wraps(command)
    def run(*, output: Format | None, **given: Any) -> Any:
        if given["as_json"] and output not in (None, Format.JSON):
            raise typer.BadParameter("--json and --output say different things.")
        FORMAT.set(Format.JSON if given["as_json"] else output)
        return command(**given | {"as_json": FORMAT.get() is Format.JSON})

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [each.replace(kind=kind) for each in own.parameters.values()]
    parameters.append(inspect.Parameter("output", kind, default=None, annotation=Output))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


Limit = Annotated[int, typer.Option(min=1, max=10_000)]

Item = dict[str, Any]
Column = tuple[str, Callable[[Item], Any]]

ID = "ID"
"""The title of columns that people copy from."""
WIDE = 10_000
"""Columns of what is no terminal: programs that read lines want a record on one."""
FOLDED = 12
"""Characters of a column that is folded, at the least."""
SHORT = 8
"""Characters of an ID that a server understands instead of the whole one."""


class Id(str):
    """Shortened in a table on a terminal: whatever takes it understands its beginning, too."""


_COLOURS = {
    "READY": "green",
    "RUNNING": "green",
    "FAILED": "red",
    "LOST": "red",
    "UNHEALTHY": "yellow",
    "RESTARTING": "yellow",
}


def json_or_table(
    items: Sequence[Item], columns: Sequence[Column], *, as_json: bool, called: str = ""
) -> None:
    """As asked for: `called` is the title of the column that a record is called by, if that is
    neither NAME nor SLUG nor the first one."""
    if as_json:
        as_document(list(items))
    elif FORMAT.get() is Format.NAME:
        read = _called(columns, called)
        print("".join(f"{read(item)}\n" for item in items), end="")
    elif not out.is_terminal:
        Console(file=out.file, width=WIDE).print(_table(*_cells(items, _shown(columns))))
    else:
        show_in(out, items, columns)


def json_or_row(item: Item, columns: Sequence[Column], *, called: str = "") -> None:
    """One record: all of it as JSON, unless a row or its name is asked for."""
    if FORMAT.get() in (Format.WIDE, Format.NAME):
        json_or_table([item], columns, as_json=False, called=called)
    else:
        as_document(item)


def _called(columns: Sequence[Column], called: str) -> Callable[[Item], Any]:
    for title, read in columns:
        if title in ((called,) if called else ("NAME", "SLUG")):
            return read
    return columns[0][1]


class Wide:
    """Reads what only `--output wide` shows."""

    def __init__(self, read: Callable[[Item], Any]) -> None:
        self._read = read

    def __call__(self, item: Item) -> Any:
        return self._read(item)


def _shown(columns: Sequence[Column]) -> list[Column]:
    is_wide = FORMAT.get() is Format.WIDE
    return [each for each in columns if is_wide or not isinstance(each[1], Wide)]


def show_in(terminal: Console, items: Sequence[Item], columns: Sequence[Column]) -> None:
    """Nothing is cut, however narrow the terminal: what makes no table there is a list.

    A column in which no record has anything is left out. IDs are whole where it is wide.
    """
    told = [each for each in _shown(columns) if not items or any(map(each[1], items))]
    titles, rows = _cells(items, told, are_short=FORMAT.get() is not Format.WIDE)
    if _least_width(titles, rows) <= terminal.width:
        terminal.print(_table(titles, rows))
    else:
        terminal.print(_list(*_cells(items, told)), soft_wrap=True)


def _cells(
    items: Sequence[Item], columns: Sequence[Column], *, are_short: bool = False
) -> tuple[list[str], list[list[Text]]]:
    rows = [[_cell(value(item), are_short) for _, value in columns] for item in items]
    return [title for title, _ in columns], rows


def _least_width(titles: Sequence[str], rows: Sequence[Sequence[Text]]) -> int:
    """Of a table that can be read: IDs are whole, other columns not narrower than `FOLDED`."""
    width = 2 * (len(titles) - 1)
    for title, *cells in zip(titles, *rows, strict=True):
        widest = max([len(title), *(cell.cell_len for cell in cells)])
        width += widest if title == ID else min(widest, FOLDED)
    return width


def _list(titles: Sequence[str], rows: Sequence[Sequence[Text]]) -> Text:
    """A paragraph for each record, a line for each of its values; for none, the titles."""
    if not rows:
        return Text(" ".join(titles), style="bold")
    longest = max(map(len, titles))
    return Text("\n\n").join(
        Text("\n").join(
            Text.assemble((title.ljust(longest), "bold"), "  ", cell)
            for title, cell in zip(titles, row, strict=True)
            if cell
        )
        for row in rows
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    """IDs stay whole; where it is narrow, the rest goes on below."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, *cells in zip(titles, *rows, strict=True):
        if title == ID:
            widest = max((cell.cell_len for cell in cells), default=0)
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


def short_id(item: Item) -> Id:
    """Of a record that its server finds by the beginning of its ID."""
    return Id(item["uuid"])


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


def labels(name: str) -> Callable[[Item], str]:
    read = field(name)
    return lambda item: ", ".join(f"{key}={value}" for key, value in (read(item) or {}).items())


def human_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _cell(value: Any, is_short: bool) -> Text:
    text = "" if value is None else str(value)
    if is_short and isinstance(value, Id):
        text = text[:SHORT]
    return Text(text, style=_COLOURS.get(text, ""))
