"""Pushes into the platform's registry and what takes content out of it exclude each other."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.adapters.store.store import Store
from pipeline.errors import Conflict, RegistryUnavailable
from pipeline.own_registry import fence as fences
from pipeline.own_registry.fence import LEASE, RegistryFence
from tests.support.engines.node_rig import Clock

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fence(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> RegistryFence:
    for name in ("PUSH_WAIT_S", "CLAIM_WAIT_S", "DRAIN_S"):
        monkeypatch.setattr(fences, name, 0.5)
    return RegistryFence(store, "acme", clock)


async def test_pushes_go_side_by_side_and_a_collection_waits_for_them(fence: RegistryFence) -> None:
    async with fence.pushing(), fence.pushing():
        with pytest.raises(Conflict, match="being pushed"):
            async with fence.collecting():
                raise AssertionError("two pushes are under way")
    async with fence.collecting():
        with pytest.raises(Conflict, match="already"):
            async with fence.collecting():
                raise AssertionError("one is under way")


async def test_a_push_waits_for_a_collection_and_says_so_when_it_takes_too_long(
    fence: RegistryFence,
) -> None:
    async with fence.collecting():
        with pytest.raises(RegistryUnavailable, match="space is being collected") as refused:
            async with fence.pushing():
                raise AssertionError("a collection is under way")
        assert refused.value.retryable

        async def push() -> None:
            async with fence.pushing():
                return

        waiting = asyncio.create_task(push())
        await asyncio.sleep(0.1)
        assert not waiting.done()
    await waiting


async def test_the_dead_block_nobody_for_long(
    fence: RegistryFence, store: Store, clock: Clock
) -> None:
    killed = RegistryFence(store, "acme", clock)
    killed._release = _nothing  # type: ignore[method-assign]
    async with killed.collecting():
        pass
    clock.skip(LEASE.total_seconds() + 1)
    async with killed.pushing() as lost:
        pass
    with pytest.raises(Conflict):
        async with fence.collecting():
            raise AssertionError("it may be alive")
    clock.skip(LEASE.total_seconds() + 1)
    async with fence.collecting():
        assert (await fence.space()).pushes == []
    # It was only slow: what it pushed may be gone, so nothing may refer to it.
    with pytest.raises(RegistryUnavailable, match="interrupted"):
        await lost.claim("images/acme/x", DIGEST)


async def test_a_manifest_is_not_removed_while_it_is_written_nor_the_reverse(
    fence: RegistryFence,
) -> None:
    async with fence.pushing() as push:
        async with fence.removing("images/acme/x", DIGEST) as is_ours:
            assert is_ours
            with pytest.raises(RegistryUnavailable):
                await push.claim("images/acme/x", DIGEST)
            await push.claim("images/acme/y", DIGEST)
        await push.claim("images/acme/x", DIGEST)
        async with fence.removing("images/acme/x", DIGEST) as is_ours:
            assert not is_ours
    async with fence.removing("images/acme/x", DIGEST) as is_ours:
        assert is_ours


async def _nothing(*_: object) -> None:
    return
