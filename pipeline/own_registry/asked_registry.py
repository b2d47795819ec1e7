"""A registry in a container of its own, which `deploy/registry/serve.sh` runs and collects for us.

They share the registry's folder. A request is the file `ask` (`measure ID` or `collect ID`), which
becomes `ID.taken`; the answer is the file `ID`: what the collection wrote, and its exit code in the
last line. Whoever waits touches his request: one that is not touched any more is not begun, or is
ended, before the lease of whoever died runs out.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline import concurrency
from pipeline.errors import Conflict, Misconfigured
from pipeline.own_registry.collection import REPOSITORIES, blob_sizes, reclaimed
from pipeline.records.idempotency import new_id

CONTROL: Final = "collection"
"""Below the registry's folder; `serve.sh` makes it."""
LOOK_S: Final = 0.5
FORGOTTEN_S: Final = 15.0
"""A request that was not touched for so long is nobody's any more; `serve.sh` says the same."""
ENDING_S: Final = 10.0
"""How long one that was given up may take to end."""


class AskedRegistry:
    """A `CollectableRegistry`. `folder` is the root of the registry's storage."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._control = folder / CONTROL

    async def reclaimable(self) -> int:
        return await self._ask("measure")

    async def collected(self) -> int:
        return await self._ask("collect")

    def used_bytes(self) -> int:
        return sum(blob_sizes(self._folder).values())

    async def _ask(self, what: str) -> int:
        if not (self._folder / REPOSITORIES).exists():
            return 0
        id = new_id()
        sizes = await asyncio.to_thread(blob_sizes, self._folder)
        self._put(f"{what} {id}\n", id)
        try:
            told = await self._answer(id)
        finally:
            await concurrency.run_to_completion(self._give_up(id))
        said, _, code = told.rstrip().rpartition("\n")
        if code != "exit code 0":
            why = " ".join(said.splitlines()[-2:])
            raise Misconfigured(f"The registry's blobs cannot be collected ({code}): {why}")
        return reclaimed(said, sizes)

    def _put(self, text: str, id: str) -> None:
        """One request at a time, however many workers there are."""
        ask, draft = self._control / "ask", self._control / f"{id}.draft"
        if _is_forgotten(ask):
            ask.unlink(missing_ok=True)
        try:
            draft.write_text(text)
            os.link(draft, ask)
        except FileExistsError:
            raise Conflict("The registry's space is looked at already.") from None
        except OSError as error:
            raise Misconfigured(
                f"{self._control} cannot be written ({error.strerror}): does the registry run with"
                " deploy/registry/serve.sh, on the volume that the workers have?"
            ) from error
        finally:
            draft.unlink(missing_ok=True)

    async def _answer(self, id: str) -> str:
        answer = self._control / id
        while not answer.exists():
            if not (self._waits(id) or answer.exists()):
                raise Misconfigured("The registry was started anew while its space was looked at.")
            await asyncio.sleep(LOOK_S)
        return answer.read_text()

    def _waits(self, id: str) -> bool:
        """Tells that somebody still wants it. False when it is not there any more."""
        ask, taken = self._control / "ask", self._control / f"{id}.taken"
        with suppress(FileNotFoundError):
            if _is_for(ask, id):
                os.utime(ask)
                return True
        with suppress(FileNotFoundError):
            os.utime(taken)
            return True
        return False

    async def _give_up(self, id: str) -> None:
        """Returns when nothing is done for this request any more, whether answered or not."""
        answer, taken = self._control / id, self._control / f"{id}.taken"
        with suppress(FileNotFoundError):
            if _is_for(self._control / "ask", id):
                (self._control / "ask").unlink()
        was_taken = taken.exists()
        taken.unlink(missing_ok=True)
        for _ in range(int(ENDING_S / LOOK_S)):
            if answer.exists() or not was_taken:
                break
            await asyncio.sleep(LOOK_S)
        answer.unlink(missing_ok=True)


def _is_for(ask: Path, id: str) -> bool:
    """Raises FileNotFoundError."""
    return ask.read_text().split()[1:] == [id]


def _is_forgotten(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime > FORGOTTEN_S
    except FileNotFoundError:
        return False
