"""`modelyard doctor`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import Annotated

import typer

from cli.client import FAILED, out


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything that the stack needs; say what to do about what is missing.

    The exit code is 1 when anything is.
    """
    from pipeline.settings import Settings
    from pipeline.stack.checks import examine

    findings = asyncio.run(examine(Settings(), os.environ))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
            out.print(f"{mark} {finding.name}: {finding.detail}", highlight=False)
            if finding.remedy:
                out.print(f"     {finding.remedy}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)
