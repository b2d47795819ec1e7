"""The registry of `docker compose`: its space is collected by its own container when asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict, Misconfigured
from pipeline.own_registry import asked_registry
from pipeline.own_registry.asked_registry import CONTROL, AskedRegistry
from pipeline.own_registry.collection import RegistryCollector
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.processes.piece import program
from tests.support.archives.images import TinyImage, busybox_image
from tests.support.registries.archive_yard import ArchiveYard, archive_yard
from tests.support.sources import ROOT
from tests.support.systems.services import Services
from tests.support.waiting import eventually

SIZE = 256 * 1024
GATED = """\
#!/bin/sh
case "$*" in
garbage-collect*dry*) ;;
garbage-collect*) while [ -e "${0%/*}/gate" ]; do sleep 0.1; done ;;
esac
[ ! -e "${0%/*}/broken" ] || { echo "no blobs here"; exit 3; }
exec docker-registry "$@"
"""


class ServedRegistry(RegistryPiece):
    """As compose.yaml runs it; its collection waits while `gate` is there."""

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        super().prepare()
        self.bin.mkdir(exist_ok=True)
        (self.bin / "registry").write_text(GATED)
        (self.bin / "registry").chmod(0o755)

    def command(self) -> Sequence[str]:
        return ["sh", str(ROOT / "deploy" / "registry" / "serve.sh")]

    def environment(self) -> Mapping[str, str]:
        folder = Path(program("docker-registry", remedy="install docker-registry.")).parent
        return super().environment() | {
            "PATH": f"{self.bin}:{folder}:{os.environ['PATH']}",
            "MODELYARD_REGISTRY_CONFIG": str(self.folder / "registry.yml"),
            "MODELYARD_REGISTRY_CONTROL": str(self.data / CONTROL),
            "REGISTRY_HTTP_ADDR": self.host,
        }

    def _listens(self) -> bool:
        return True


@pytest.fixture
async def served(services: Services) -> AsyncIterator[ServedRegistry]:
    plain = services.registry()
    registry = ServedRegistry(plain.folder, port=plain.port)
    await registry.start()
    yield registry
    await registry.stop()


@pytest.fixture
async def yard(store: Store, served: ServedRegistry) -> AsyncIterator[ArchiveYard]:
    async with archive_yard(store, served) as yard:
        every = timedelta(hours=1)
        yard.collector = RegistryCollector(
            AskedRegistry(served.data), yard.fence, every=every, report=yard.reports.append
        )
        yield yard


async def push_status(registry: ServedRegistry) -> int:
    async with httpx.AsyncClient(base_url=f"http://{registry.host}", timeout=30) as http:
        return (await http.post("/v2/any/blobs/uploads/")).status_code


async def test_it_gives_back_what_was_deleted_and_takes_pulls_only_meanwhile(
    yard: ArchiveYard, served: ServedRegistry
) -> None:
    kept, gone = await yard.push(padded(1), "kept:1"), await yard.push(padded(2), "gone:1")
    await yard.delete(gone)
    (served.bin / "gate").touch()
    collecting = asyncio.create_task(yard.collector.collect())

    async def is_read_only() -> bool:
        try:
            return await push_status(served) == 405
        except httpx.TransportError:
            return False

    await eventually(is_read_only)
    assert yard.holds(kept)
    (served.bin / "gate").unlink()
    assert await collecting > SIZE
    assert await push_status(served) == 202
    again = await yard.push(padded(2), "gone:1")
    assert yard.holds(again)
    assert (await yard.fence.space()).reclaimable_bytes == 0
    # Requests and answers are gone.
    assert list((served.data / CONTROL).iterdir()) == []


async def test_nothing_is_removed_for_whoever_has_died(
    yard: ArchiveYard, served: ServedRegistry
) -> None:
    await yard.delete(await yard.push(padded(3), "gone:1"))
    control = served.data / CONTROL
    (served.bin / "gate").touch()
    (control / "ask").write_text("collect dead\n")
    await eventually((control / "dead.taken").exists)
    os.utime(control / "dead.taken", (0, 0))
    await eventually((control / "dead").exists)
    assert (control / "dead").read_text().endswith("exit code 137\n")
    assert await push_status(served) == 202
    # One that was left when nobody could take it is not begun either, and is in nobody's way.
    (control / "ask").write_text("collect dead\n")
    os.utime(control / "ask", (0, 0))
    assert await AskedRegistry(served.data).reclaimable() > SIZE


async def test_a_collection_that_is_given_up_has_ended_before_pushes_go_on(
    yard: ArchiveYard, served: ServedRegistry
) -> None:
    gone = await yard.push(padded(4), "gone:1")
    await yard.delete(gone)
    (served.bin / "gate").touch()
    collecting = asyncio.create_task(yard.collector.collect())
    await eventually(lambda: any((served.data / CONTROL).glob("*.taken")))
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    assert await push_status(served) == 202
    assert list((served.data / CONTROL).iterdir()) == []
    (served.bin / "gate").unlink()
    assert await AskedRegistry(served.data).reclaimable() > SIZE


async def test_what_goes_wrong_is_said(
    yard: ArchiveYard, served: ServedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.push(padded(5), "kept:1")
    asked = AskedRegistry(served.data)
    (served.bin / "broken").touch()
    with pytest.raises(Misconfigured, match=r"\(exit code 3\): no blobs here"):
        await asked.reclaimable()
    (served.bin / "broken").unlink()
    await served.stop()
    asking = asyncio.create_task(asked.reclaimable())
    await eventually((served.data / CONTROL / "ask").exists)
    with pytest.raises(Conflict):
        await asked.reclaimable()
    await served.start()
    with pytest.raises(Misconfigured, match="started anew"):
        await asking
    monkeypatch.setattr(asked_registry, "CONTROL", "absent")
    with pytest.raises(Misconfigured, match=r"serve\.sh"):
        await AskedRegistry(served.data).reclaimable()


def padded(number: int) -> TinyImage:
    return busybox_image(labels={"number": str(number)}, random_layers=[SIZE], seed=number)
