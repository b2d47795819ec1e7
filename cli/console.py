"""What every command says and reads: its streams, its sentences and its exit codes."""

from __future__ import annotations

import sys
from typing import IO, NoReturn

import typer
from rich.console import Console
from rich.text import Text

out = Console()
err = Console(stderr=True)

FAILED, USAGE, MISSING, DENIED, UNREACHABLE = 1, 2, 3, 4, 5
"""Exit codes. 0 is success; 2 is what typer uses for wrong arguments."""

Part = str | tuple[str, str]


def say(console: Console, *parts: Part) -> None:
    """Parts on one line, as they are or each with its style.

    For what servers and people wrote: it is neither read as markup nor broken into lines.
    """
    console.print(Text.assemble(*parts), soft_wrap=True, highlight=False)


def refuse(what: str, remedy: str = "", *, code: int = USAGE) -> NoReturn:
    """Exit with a sentence about what is wrong, and one about what to do."""
    say(err, (what, "red"), f" {remedy}" if remedy else "")
    raise typer.Exit(code)


def standard_input() -> IO[bytes]:
    """The bytes of standard input. Exits when the command was started without one."""
    if sys.stdin is None:
        refuse("Standard input is closed.", "Pipe into it what is to be read.")
    return sys.stdin.buffer
