"""Pages of the documentation as programs: their examples run, and answer as the page says."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.sources import ROOT

DEADLINE_S = 200
"""Twenty seconds are usual; a test that runs a long page needs such a timeout."""
_EXAMPLE = re.compile(r"^```sh\n(.*?)^```\n(?:\n```(?:json|text)\n(.*?)^```\n)?", re.M | re.S)
_BETWEEN = "\x1e"
_DIFFERS_EACH_TIME = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "<time>"),
    (re.compile(r'("latency_ms": ?)\d+(\.\d+)?'), r"\1<number>"),
)


@dataclass(frozen=True, slots=True)
class Example:
    """A ```sh block, with the ```json or ```text block right below it as its answer."""

    script: str
    answer: str | None


def examples(page: Path) -> list[Example]:
    return [
        Example(script, answer or None) for script, answer in _EXAMPLE.findall(page.read_text())
    ]


def run(page: Path, state: Path, stands_for: Mapping[str, str] | None = None, **env: str) -> str:
    """All examples in one shell, from the checkout, on the stack of `state`; returns their output.

    Fails the test when one fails or answers differently than the page says. Ids, times and
    latencies may differ, a line `…` covers any lines, and what `stands_for` names in an answer
    is something else here.
    """
    wanted = examples(page)
    outputs = _outputs(wanted, {"MODELYARD_STATE": str(state), **env})
    for example, output in zip(wanted, outputs, strict=True):
        if example.answer is not None:
            _compare(example, output, stands_for or {})
    return "".join(outputs)


def _outputs(wanted: list[Example], env: Mapping[str, str]) -> list[str]:
    between = f"\nprintf '{_BETWEEN}'\n"
    script = "set -euo pipefail\n" + between.join(example.script for example in wanted)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": path, "HOME": "/root", "XDG_CONFIG_HOME": env["MODELYARD_STATE"], **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split(_BETWEEN)


def _compare(example: Example, output: str, stands_for: Mapping[str, str]) -> None:
    answer = example.answer or ""
    for name, meant in stands_for.items():
        answer = answer.replace(name, meant)
    answer, output = _stable(answer), _stable(output)
    pattern = re.escape(answer).replace(re.escape("…\n"), r"(?:.*\n)*?")
    if not re.fullmatch(pattern, output):
        lines = difflib.ndiff(answer.splitlines(), output.splitlines())
        raise AssertionError(f"{example.script}answers\n" + "\n".join(lines))


def _stable(text: str) -> str:
    for pattern, name in _DIFFERS_EACH_TIME:
        text = pattern.sub(name, text)
    return text.rstrip("\n") + "\n"
