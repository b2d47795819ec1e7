"""The sample model that comes with the source: a real classifier, built into an image here."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import Misconfigured

SCRIPT = Path(__file__).parents[3] / "deploy" / "sample-model" / "build.sh"
NAME = "sample-model"
PORT = 8080
"""Where it listens unless PSC_MODEL_PORT says otherwise."""


async def build(docker_host: str, *, report: Callable[[str], None], script: Path = SCRIPT) -> Path:
    """The image's TAR, as `docker save` writes it; made when the cache has none that fits.

    That takes half a minute at first and a second from then on; `report` gets what is said on the
    way, line by line. Raises Misconfigured, quoting the script, when it fails.
    """
    if not script.exists():
        raise Misconfigured(f"{script} is missing: run this from a checkout of the source.")
    env = {**os.environ, "DOCKER_HOST": docker_host, "PYTHON": sys.executable}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        script, stdout=pipe, stderr=pipe, env=env, start_new_session=True
    )
    try:
        return await _outcome(child, report)
    finally:
        if child.returncode is None:
            # The script would wait for its own child before it heeds a signal.
            os.killpg(child.pid, signal.SIGTERM)
            await child.wait()


async def _outcome(child: asyncio.subprocess.Process, report: Callable[[str], None]) -> Path:
    assert child.stdout is not None
    assert child.stderr is not None
    # Whoever fills one pipe while the other is read would wait for ever.
    reporting = asyncio.create_task(_report_lines(child.stderr, report))
    printed = await child.stdout.read()
    last = await reporting
    if await child.wait() != 0:
        raise Misconfigured("The sample model could not be built: " + " ".join(last))
    return Path(printed.decode().strip())


async def _report_lines(stream: asyncio.StreamReader, report: Callable[[str], None]) -> deque[str]:
    """Reports each line; returns the last ones."""
    last: deque[str] = deque(maxlen=5)
    async for line in stream:
        text = line.decode(errors="replace").rstrip()
        last.append(text)
        report(text)
    return last
