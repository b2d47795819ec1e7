"""Files that containers are given: fetched once, whole, from where they may be fetched."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.pool import PinnedTransport
from pipeline.adapters.http.resolving import GuardedResolver
from pipeline.adapters.store.store import Store
from pipeline.agent.assets import _evict
from pipeline.bootstrap.agent import asset_rules
from pipeline.containers.engine_plan import ASSETS, asset_key
from pipeline.errors import EngineUnavailable, PullFailed
from schemas.container import Asset, Container
from schemas.states import ContainerStatus as Status
from tests.support.engines.node_rig import NodeRig, node_rig
from tests.support.http.file_server import FileServer, file_server
from tests.support.waiting import eventually

WEIGHTS = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
async def files() -> AsyncIterator[FileServer]:
    async with file_server() as files:
        files.files["/weights.bin"] = WEIGHTS
        yield files


@pytest.fixture
async def given(store: Store, tmp_path: Path) -> AsyncIterator[NodeRig]:
    """A node that may fetch from loopback."""
    limits = {"asset_max_bytes": 2 * len(WEIGHTS), "asset_allow": "127.0.0.0/8"}
    async with node_rig(store, asset_folder=tmp_path, **limits) as rig:
        yield rig


def asset(files: FileServer, path: str = "/weights.bin", **more: Any) -> Asset:
    return Asset(env_key="WEIGHTS", url=files.url(path), **more)


async def failure(rig: NodeRig, *assets: Asset, lasting: bool = True) -> str:
    """Why a container with these does not run."""
    container = await rig.run(assets=list(assets))
    raised = await rig.hand_over(last_try=not lasting)
    assert not raised
    found = await rig.record(container)
    assert found.status is Status.FAILED
    assert not rig.world.containers
    return found.reason or ""


def source(rig: NodeRig, container: Container) -> Path:
    (made,) = [each for each in rig.world.containers.values() if container.uuid in each.name]
    (mount,) = made.spec["HostConfig"]["Mounts"]
    assert (mount["Type"], mount["ReadOnly"]) == ("bind", True)
    assert f"WEIGHTS={mount['Target']}" in made.spec["Env"]
    return Path(mount["Source"])


async def test_a_file_is_there_for_reading_at_the_path_that_its_variable_tells(
    given: NodeRig, files: FileServer
) -> None:
    container = await given.up(assets=[asset(files, sha256=DIGEST)])
    place = source(given, container)
    assert place.read_bytes() == WEIGHTS
    key = asset_key(files.url("/weights.bin"))
    made = given.world.only()
    assert made.spec["HostConfig"]["Mounts"][0]["Target"] == f"/modelyard/assets/{key}/weights.bin"
    assert made.labels[ASSETS] == key
    kinds = given.sent.kinds(container.uuid)
    assert kinds[-3:] == ["asset.fetched", "created", "running"]
    assert not [each for each in given.sent.messages if files.url("/") in str(each.data)]
    # The next one costs nothing.
    await given.up(assets=[asset(files)])
    assert files.asked == [("/weights.bin", None)]


async def test_of_several_files_progress_is_told_no_more_often_than_the_setting_says(
    store: Store, files: FileServer, tmp_path: Path
) -> None:
    files.files["/more.bin"] = WEIGHTS
    patient = {"asset_allow": "127.0.0.0/8", "progress_interval_s": 600}
    async with node_rig(store, asset_folder=tmp_path, **patient) as rig:
        both = [asset(files), asset(files, "/more.bin").model_copy(update={"env_key": "MORE"})]
        container = await rig.up(assets=both)
    kinds = rig.sent.kinds(container.uuid)
    assert kinds.count("asset.fetched") == 2
    assert kinds.count("asset.progressed") <= 1


async def test_many_at_once_share_one_download(given: NodeRig, files: FileServer) -> None:
    files.gate = asyncio.Event()
    made = [await given.run(assets=[asset(files)]) for _ in range(3)]
    orders = given.orders()
    launches = [asyncio.create_task(given.carry_out(verb, order)) for verb, order in orders]
    await eventually(lambda: bool(files.asked))
    files.gate.set()
    await asyncio.gather(*launches)
    assert len(files.asked) == 1
    assert [(await given.record(each)).status for each in made] == [Status.RUNNING] * 3


async def test_one_that_is_cut_goes_on_where_it_stopped(given: NodeRig, files: FileServer) -> None:
    files.cut = 600_000
    container = await given.up(assets=[asset(files, sha256=DIGEST)])
    assert source(given, container).read_bytes() == WEIGHTS
    assert files.asked == [("/weights.bin", None), ("/weights.bin", "600000")]


async def test_a_server_that_sends_no_ranges_is_asked_for_all_of_it_again(
    given: NodeRig, files: FileServer
) -> None:
    files.ranges, files.cut = False, 600_000
    container = await given.run(assets=[asset(files, sha256=DIGEST)])
    ((verb, order),) = given.orders()
    with pytest.raises(PullFailed, match="cannot be reached"):
        await given.carry_out(verb, order)
    files.cut = None
    await given.carry_out(verb, order)
    assert source(given, container).read_bytes() == WEIGHTS


async def test_one_that_stalls_is_given_up_with_the_reason(
    given: NodeRig, files: FileServer
) -> None:
    files.stalls, files.cut, files.ranges = True, 1000, False
    why = await failure(given, asset(files), lasting=False)
    assert "nothing of it came for 0.3 s" in why


async def test_another_content_than_was_asked_for_is_refused_and_not_kept(
    given: NodeRig, files: FileServer, tmp_path: Path
) -> None:
    why = await failure(given, asset(files, sha256="0" * 64))
    assert DIGEST in why
    assert not list(tmp_path.iterdir())


async def test_what_is_too_large_is_refused(
    given: NodeRig, files: FileServer, tmp_path: Path
) -> None:
    files.files["/huge"] = WEIGHTS * 3
    assert "MODELYARD_ASSET_MAX_BYTES" in await failure(given, asset(files, "/huge"))
    assert not list(tmp_path.iterdir())


async def test_what_is_not_there_says_so(given: NodeRig, files: FileServer) -> None:
    assert "answered 404" in await failure(given, asset(files, "/absent"))


async def test_loopback_is_refused_where_no_setting_allows_it(
    rig: NodeRig, files: FileServer
) -> None:
    assert "MODELYARD_ASSET_ALLOW allows them" in await failure(rig, asset(files))
    assert not files.asked


async def test_a_redirect_to_where_nobody_may_go_is_not_followed(
    given: NodeRig, files: FileServer
) -> None:
    async def resolve(host: str) -> list[Any]:
        return [ipaddress.ip_address("169.254.169.254")]

    files.redirects["/away"] = "http://metadata.example/secret"
    resolver = GuardedResolver(resolve, asset_rules(given.settings))
    given.agent.launching._pulling.assets._http = GuardedHttp(PinnedTransport(), resolver)
    why = await failure(given, asset(files, "/away"))
    assert "metadata.example is not contacted" in why


def test_what_was_used_longest_ago_goes_first_and_never_what_is_needed(tmp_path: Path) -> None:
    for number, name in enumerate(("oldest", "needed", "newer", "newest")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 100)
        os.utime(folder / "file", (number, number))
    _evict(tmp_path, {"needed"}, 250)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["needed", "newest"]


def test_what_was_left_half_goes_unless_it_is_needed(tmp_path: Path) -> None:
    for name in ("left.part", "left.part.json", "wanted.part", "wanted.part.json"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (0, 0))
    _evict(tmp_path, {"wanted"}, 250)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["wanted.part", "wanted.part.json"]


async def test_what_is_here_is_launched_also_when_nothing_can_be_evicted(
    given: NodeRig, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files come at once, and whatever the engine says."""

    async def away(labels: Any) -> Any:
        raise EngineUnavailable("The engine is away.")

    assets = given.agent.launching._pulling.assets
    monkeypatch.setattr(assets, "_engine", SimpleNamespace(list=away))
    await given.up(assets=[asset(files)])
    monkeypatch.undo()
    assets._settings = given.settings.model_copy(update={"asset_cache_max_bytes": 1})
    paths = [f"/{number}.bin" for number in range(4)]
    files.files |= dict.fromkeys(paths, WEIGHTS)
    made = [await given.run(assets=[asset(files, path)]) for path in paths]
    await asyncio.gather(*(given.carry_out(verb, order) for verb, order in given.orders()))
    assert [(await given.record(each)).status for each in made] == [Status.RUNNING] * 4
    assert all(source(given, each).exists() for each in made)
