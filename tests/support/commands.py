"""Programs that tests run to their end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


async def run(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = CHECKOUT
) -> str:
    """What it wrote to standard output. Fails the test with all it wrote when it fails."""
    done = await _run(command, env, cwd)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


async def fails(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = CHECKOUT
) -> str:
    """What it wrote to standard error; it must not succeed."""
    done = await _run(command, env, cwd)
    assert done.returncode != 0, f"{command} was expected to fail and wrote:\n{done.stdout}"
    return done.stderr


async def _run(
    command: Sequence[str | Path], env: Mapping[str, str] | None, cwd: Path
) -> subprocess.CompletedProcess[str]:
    # In a thread: a test may cancel, and other fixtures share the loop.
    return await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
