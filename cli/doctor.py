"""`modelyard doctor`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import FAILED, out, say
from cli.configuration import read_settings
from pipeline.errors import Misconfigured

if TYPE_CHECKING:
    from pipeline.stack.checks import Finding


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check everything that the stack needs; say what to do about what is missing.

    The exit code is 1 when anything is.
    """
    findings = _findings()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = ("ok  ", "green") if finding.ok else ("FAIL", "red")
            say(out, mark, f" {finding.name}: {finding.detail}")
            if finding.remedy:
                say(out, f"     {finding.remedy}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)


def _findings() -> list[Finding]:
    """Of the settings alone when they are wrong: what to look at is said by them."""
    from pipeline.stack.checks import Finding, examine

    try:
        settings = read_settings()
    except Misconfigured as bad:
        remedy = "Set it right, or unset it: docs/settings.md tells what it is for."
        return [Finding(name, False, why, remedy) for name, why in bad.facts["faults"]]
    return asyncio.run(examine(settings, os.environ))
