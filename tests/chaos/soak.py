"""What a soak is made of: callers, a killer, an onlooker. All draw from one seeded `Random`."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from pipeline.errors import Misconfigured
from pipeline.stack.pieces.app import ApiPiece
from pipeline.stack.processes.piece import Piece
from tests.bench.bench_idle import resident_mib
from tests.support.systems.system import System

ALIVE_MAX = 12
"""Containers that the callers keep at once."""
PACE_S = 0.5
QUIET_S = (2.0, 8.0)
AWAY_S = (0.0, 6.0)
"""Longer than a node's grace now and then, so that nodes are lost and come back."""
STARTS = 5
PAUSED = 0.25
"""The share of faults where a program only stands still."""


@dataclass
class Callers:
    """Ask as clients do: until they are told yes. `kept` and `given_up` are what they were told."""

    system: System
    apis: list[ApiPiece]
    image: str
    dice: random.Random
    kept: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    is_over: bool = False

    async def run(self) -> None:
        """Until `is_over`, and then to the answer of what was asked last."""
        while not self.is_over:
            # Not waiting for anything: callers have a pace.
            await asyncio.sleep(self.dice.uniform(0, 2 * PACE_S))
            if len(self.kept) < ALIVE_MAX and self.dice.random() < 0.7:
                await self._launch()
            elif self.kept:
                await self._delete(self.kept.pop(self.dice.randrange(len(self.kept))))

    async def _launch(self) -> None:
        body = {"image": self.image, "gpus": self.dice.choice([0, 1, 1, 2]), "restart": "always"}
        answer = await self._ask("POST", "/containers", body)
        if answer.is_success:
            self.kept.append(answer.json()["uuid"])
        else:
            self.refused.append(answer.text)

    async def _delete(self, container: str) -> None:
        answer = await self._ask("DELETE", f"/containers/{container}", None)
        if answer.is_success or answer.status_code == 404:
            self.given_up.append(container)
        else:
            self.kept.append(container)
            self.refused.append(answer.text)

    async def _ask(self, method: str, path: str, body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        while True:
            try:
                api = self.dice.choice(self.apis)
                answer = await self.system.call(api, method, path, json=body, headers=headers)
                if answer.status_code < 500 and answer.status_code not in (409, 429):
                    return answer
                if answer.status_code == 409 and "idempot" not in answer.text.lower():
                    return answer
            except httpx.TransportError:
                pass  # the same again, elsewhere
            await asyncio.sleep(PACE_S)


@dataclass
class Killer:
    """One victim at a time: SIGKILL and a start some time later, or a long SIGSTOP."""

    victims: Mapping[str, Piece]
    dice: random.Random
    faults: list[str] = field(default_factory=list)

    async def run(self, *, until: float) -> None:
        """Every victim runs when it returns. `until` is of the monotonic clock."""
        while time.monotonic() < until:
            await asyncio.sleep(self.dice.uniform(*QUIET_S))
            name = self.dice.choice(sorted(self.victims))
            await self._strike(name, self.victims[name])
            await self._supervise()
        await self._supervise()

    async def _strike(self, name: str, victim: Piece) -> None:
        away_s = self.dice.uniform(*AWAY_S)
        is_pause = self.dice.random() < PAUSED
        self.faults.append(f"{'pause' if is_pause else 'kill'} {name} {away_s:.1f} s")
        print(self.faults[-1], flush=True)
        if is_pause:
            victim.pause()
        else:
            await victim.kill()
        await asyncio.sleep(away_s)
        if is_pause:
            victim.resume()

    async def _supervise(self) -> None:
        """As the embedded stack and compose do: a program that gave up is started again."""
        for name, piece in self.victims.items():
            for left in reversed(range(STARTS)):
                try:
                    await piece.start()  # nothing, while it runs
                    break
                except Misconfigured as error:
                    print(f"{name} does not start: {error.message[-300:]}", flush=True)
                    if not left:
                        raise


@dataclass
class Onlooker:
    """Looks at the engine, not at what anybody says: GPUs in use twice, memory over time."""

    system: System
    docker_host: str
    watched: Mapping[str, Piece]
    shared: list[str] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(2)
            await self._look_at_gpus()
            for name, piece in self.watched.items():
                if piece.pid is not None:
                    self.memory[name].append(resident_mib(piece.pid))

    async def _look_at_gpus(self) -> None:
        twice = _overlaps(await self._running())
        if twice:
            # Both still run: no snapshot in the middle of a change.
            for gpu, holders in _overlaps(await self._running()).items():
                if len(holders & twice.get(gpu, set())) > 1:
                    self.shared.append(f"{gpu} is in {sorted(holders)}")

    async def _running(self) -> dict[str, list[str]]:
        """GPUs by container of the engine. Empty while the engine is away."""
        ours = f"label=modelyard.installation={self.system.installation}"
        ids = (await self._docker("ps", "-q", "--no-trunc", "--filter", ours)).split()
        if not ids:
            return {}
        found: dict[str, list[str]] = {}
        for container in json.loads(await self._docker("inspect", *ids) or "[]"):
            env = dict(line.partition("=")[::2] for line in container["Config"]["Env"])
            if container["State"]["Running"]:
                gpus = env.get("NVIDIA_VISIBLE_DEVICES", "void").split(",")
                found[container["Id"]] = [gpu for gpu in gpus if gpu != "void"]
        return found

    async def _docker(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "docker",
            "-H",
            self.docker_host,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return (await process.communicate())[0].decode()

    def growth(self, name: str) -> float:
        """Of the median between the second and the last quarter: the first one warms up."""
        samples = self.memory[name]
        quarter = max(1, len(samples) // 4)
        early = statistics.median(samples[quarter : 2 * quarter] or samples)
        return statistics.median(samples[-quarter:]) / early


def _overlaps(running: Mapping[str, list[str]]) -> dict[str, set[str]]:
    holders: dict[str, set[str]] = defaultdict(set)
    for container, gpus in running.items():
        for gpu in gpus:
            holders[gpu].add(container)
    return {gpu: those for gpu, those in holders.items() if len(those) > 1}
