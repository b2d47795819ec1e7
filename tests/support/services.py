"""Real services for tests: the pieces of the product's own stack, in a folder of this run.

The kernel ends them with this process. What a run that was killed left behind (a bridge, its rules,
its folder) is swept by the next one.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

from pipeline.stack.dockerd import DockerdPiece
from pipeline.stack.mongod import MongodPiece
from pipeline.stack.nats import NatsPiece
from pipeline.stack.owner import Owner
from pipeline.stack.piece import Piece
from pipeline.stack.ports import any_free
from pipeline.stack.registry import RegistryPiece

ROOT = Path(tempfile.gettempdir(), "modelyard-tests")
PASSWORD = "test-password"
AnyPiece = TypeVar("AnyPiece", bound=Piece)

ORGS = {"acme": "acme-password", "other": "other-password"}


class Services:
    """Makes services that are not started yet; `stop` ends all that were."""

    def __init__(self) -> None:
        self._owner = Owner.me()
        self._folder = ROOT / self._owner.tag
        self._numbers = itertools.count(1)
        self._made: list[Piece] = []
        self._rng = random.Random()

    def nats(self) -> NatsPiece:
        folder = self._folder_for("nats")
        return self._keep(NatsPiece(folder, port=self._port(), password=PASSWORD, orgs=ORGS))

    def mongod(self) -> MongodPiece:
        folder = self._folder_for("mongod")
        return self._keep(
            MongodPiece(folder, port=self._port(), password=PASSWORD, key="0123456789abcdef")
        )

    def registry(self) -> RegistryPiece:
        return self._keep(RegistryPiece(self._folder_for("registry"), port=self._port()))

    def dockerd(self) -> DockerdPiece:
        return self._keep(DockerdPiece(self._folder_for("dockerd")))

    async def stop(self) -> None:
        for piece in reversed(self._made):
            await piece.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _folder_for(self, name: str) -> Path:
        return self._folder / f"{name}-{next(self._numbers)}"

    def _port(self) -> int:
        return any_free(self._rng)

    def _keep(self, piece: AnyPiece) -> AnyPiece:
        self._made.append(piece)
        return piece


async def sweep() -> None:
    """Removes what runs whose process is gone left behind."""
    for folder in ROOT.iterdir() if ROOT.exists() else ():
        if not Owner.from_tag(folder.name).alive:
            for left in folder.glob("dockerd-*"):
                await DockerdPiece(left).clean()
            shutil.rmtree(folder, ignore_errors=True)
