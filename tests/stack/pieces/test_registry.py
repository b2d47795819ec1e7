"""A registry of our own, and what is done beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.stack.pieces import registry
from pipeline.stack.pieces.registry import REPOSITORIES, RegistryPiece
from pipeline.stack.processes.process import Process


async def test_a_collection_that_is_cancelled_runs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = RegistryPiece(tmp_path)
    (piece._data / REPOSITORIES).mkdir(parents=True)
    piece.prepare()
    begun: list[Process] = []

    class Noted(Process):
        def __init__(self, log: Path) -> None:
            super().__init__(log)
            begun.append(self)

    monkeypatch.setattr(registry, "Process", Noted)
    for steps in range(4):
        collecting = asyncio.create_task(piece.collect(is_dry_run=False))
        for _ in range(steps):
            await asyncio.sleep(0)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
    assert begun
    assert not [each for each in begun if each.pid is not None]
