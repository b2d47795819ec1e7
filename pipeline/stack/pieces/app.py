"""Our own processes as pieces of the stack: the HTTP server, the workers, the node agent."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.stack.processes.piece import Piece


class AppPiece(Piece):
    """`python -m <module>`, told everything by its environment. Ready when it runs."""

    # Messages in flight are finished before a worker leaves.
    stop_grace_s = 30

    def __init__(
        self,
        name: str,
        module: str,
        folder: Path,
        *,
        env: Mapping[str, str],
        log: Path,
        port: int = 0,
    ) -> None:
        self.name = name
        super().__init__(folder, port=port, log=log)
        self._module = module
        self._env = env

    def environment(self) -> Mapping[str, str]:
        # Each of the drivers' threads would otherwise get a heap of its own, and keep it.
        return {"MALLOC_ARENA_MAX": "1"} | dict(self._env)

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", self._module]

    async def ready(self) -> bool:
        return self.running


class ApiPiece(AppPiece):
    """Ready when `/readyz` says so, which takes every dependency into account."""

    start_timeout_s = 60

    def __init__(self, folder: Path, *, port: int, env: Mapping[str, str], log: Path) -> None:
        super().__init__("api", "api", folder, env=env, log=log, port=port)

    async def ready(self) -> bool:
        return await self.answers("/readyz")
