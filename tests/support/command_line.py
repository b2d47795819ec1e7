"""The command line called in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import click
import typer
from click.testing import CliRunner as ClickRunner
from click.testing import Result

_built = cache(typer.main.get_command)


class CliRunner(ClickRunner):
    """As typer's, but its commands are built once: that takes twenty times as long as a call."""

    def invoke(  # type: ignore[override]
        self,
        cli: typer.Typer | click.Command,
        args: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Result:
        command = _built(cli) if isinstance(cli, typer.Typer) else cli
        return super().invoke(command, args, **options)
