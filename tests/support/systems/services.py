"""Real services for tests: the pieces of the product's own stack, in a folder of this run.

The kernel ends them with this process. What a run that was killed left behind (a bridge, its rules,
its folder) is swept by the next one.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.gateway import HaproxyPiece
from pipeline.stack.pieces.mongod import MongodPiece
from pipeline.stack.pieces.nats import NatsPiece
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes.piece import Piece
from pipeline.stack.processes.process import Owner
from tests.support.processes import any_free, owner_of, tag_of

ROOT = Path(tempfile.gettempdir(), "modelyard-tests")
PASSWORD = "test-password"
AnyPiece = TypeVar("AnyPiece", bound=Piece)

ORGS = {"acme": "acme-password", "other": "other-password"}


class Services:
    """Makes services that are not started yet; `stop` ends all that were."""

    def __init__(self) -> None:
        self._folder = ROOT / tag_of(Owner.me())
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

    def registry(self, *, keys: str = "", realm: str = "") -> RegistryPiece:
        """Somebody's, which asks nobody who he is; with `keys` the platform's own."""
        folder = self._folder_for("registry")
        return self._keep(RegistryPiece(folder, port=self._port(), keys=keys, realm=realm))

    def dockerd(self) -> DockerdPiece:
        return self._keep(DockerdPiece(self._folder_for("dockerd")))

    def haproxy(self, signing_key: str, *, activators: Sequence[str] = ()) -> HaproxyPiece:
        """`activators` are `host:port` of APIs."""
        folder, port = self._folder_for("haproxy"), self._port()
        given = {"port": port, "signing_key": signing_key}
        return self._keep(HaproxyPiece(folder, **given, activators=activators))

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
        if not owner_of(folder.name).alive:
            for left in folder.glob("dockerd-*"):
                await DockerdPiece(left).clean()
            for left in folder.glob("haproxy-*"):
                shutil.rmtree(HaproxyPiece(left, port=0, signing_key="").run_folder, True)
            shutil.rmtree(folder, ignore_errors=True)
