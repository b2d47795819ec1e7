"""What the gateway adds to calls of a deployment, and how soon a second replica answers.

python -m tests.bench.bench_gateway [--seconds S] [--mib N] [--scales N]

One HAProxy has the configuration that is written for a deployment among a hundred, another one what
a person would write for one: the token verified, its organisation compared. A third only passes on.
All are in front of the same upstream, and take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import re
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import httpx

from pipeline.access.jwt import Claims, Signer, TokenKind
from pipeline.adapters.gateway.haproxy import Haproxy
from pipeline.gateway.routing import Backend, Server, configuration, servers_of
from pipeline.records.kernel import now
from pipeline.stack.pieces.gateway import HaproxyPiece
from schemas.access import Role
from tests.bench.bench_launch import clear, timed
from tests.bench.rows import COMPARISON, Row, keep
from tests.bench.yard import BenchYard, bench_yard
from tests.support.commands import run
from tests.support.systems.services import Services

KEY = "k" * 40
ORG = "0b5e7c1a-59c1-4c55-a0a6-0d3a1f6c2c11"
SLUG = "chat-0123456789abcdef"
CONNECTIONS = 16
TURNS = 5
SINGLES = 2000
POLL_S = 0.005

# The configurations


def as_written(piece: HaproxyPiece, upstream: int) -> str:
    names = [f"other-{number:016x}" for number in range(99)]
    server = Server("127.0.0.1", upstream)
    backends = {name: Backend(name, ORG) for name in names}
    backends[SLUG] = Backend(SLUG, ORG, {server.name(1): server})
    return configuration(piece.listening, backends)


def _begin(piece: HaproxyPiece) -> str:
    return f"""\
global
    stats socket {piece.listening.admin_socket} mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 3s
    timeout client 1h
    timeout server 1h
frontend calls
    bind {piece.bind}
"""


def by_hand(piece: HaproxyPiece, upstream: int) -> str:
    return f"""\
{_begin(piece)}
    http-request set-var(txn.token) http_auth_bearer
    http-request set-var(txn.now) date()
    http-request set-var(txn.left) var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now)
    http-request deny unless {{ var(txn.token),jwt_header_query('$.alg') -m str HS256 }}
    http-request deny unless {{ var(txn.token),jwt_verify("HS256","{KEY}") -m int 1 }}
    http-request deny unless {{ var(txn.left) -m int gt 0 }}
    http-request deny unless {{ var(txn.token),jwt_payload_query('$.org') -m str {ORG} }}
    use_backend chat if {{ path_beg /{SLUG}/ }}
backend chat
    balance leastconn
    http-request replace-path ^/{SLUG}/?(.*) /\\1
    server one 127.0.0.1:{upstream}
"""


def passing_on(piece: HaproxyPiece, upstream: int) -> str:
    return f"""\
{_begin(piece)}
    default_backend chat
backend chat
    server one 127.0.0.1:{upstream}
"""


def answering(piece: HaproxyPiece, upstream: int) -> str:
    return f"""\
{_begin(piece)}
    http-request return status 200 content-type text/plain string answer
"""


# Calls


@dataclass(frozen=True, slots=True)
class Door:
    """A way to the upstream, and a token for it."""

    port: int
    token: str
    path: str = f"/{SLUG}/"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    async def per_second(self, seconds: float) -> float:
        header = f"Authorization: Bearer {self.token}"
        options = ["-q", "-k", "-c", str(CONNECTIONS), "-n", "10000000", "-t", f"{seconds:g}"]
        told = await run("ab", *options, "-H", header, self.url)
        refused = re.findall(r"^(?:Failed requests|Non-2xx responses): +(\d+)", told, re.M)
        assert not any(map(int, refused)), told
        (found,) = re.findall(r"^Requests per second: +([\d.]+)", told, re.M)
        return float(found)

    def p50_ms(self) -> float:
        """Of one call after the other on one connection."""
        asked = f"GET {self.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        times = []
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            for _ in range(SINGLES):
                began = time.perf_counter()
                connection.sendall(asked.encode())
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
                times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    async def mib_per_second(self) -> float:
        header = f"Authorization: Bearer {self.token}"
        shape = "%{http_code} %{speed_download}"
        told = await run("curl", "-sS", "-o", "/dev/null", "-w", shape, "-H", header, self.url)
        status, speed = told.split()
        assert status == "200", told
        return float(speed) / 2**20


def stream(mib: int, port: int) -> None:
    """Answers every connection with so much, as fast as it is taken."""
    piece = b"x" * 2**20
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {mib * 2**20}\r\n\r\n"
                connection.sendall(head.encode())
                for _ in range(mib):
                    connection.sendall(piece)


async def opened(
    services: Services, write: Callable[[HaproxyPiece, int], str], upstream: int
) -> HaproxyPiece:
    piece = services.haproxy(KEY)
    await piece.start()
    haproxy = Haproxy(piece.run_folder)
    await haproxy.write(write(piece, upstream))
    await haproxy.reload()
    return piece


async def doors(services: Services, upstream: int, token: str) -> dict[str, Door]:
    """The gateway's, the one by hand, the one that passes on, and none at all."""
    found = {
        write.__name__: Door((await opened(services, write, upstream)).port, token)
        for write in (as_written, by_hand, passing_on)
    }
    return found | {"direct": Door(upstream, token)}


async def calls(services: Services, token: str, seconds: float) -> list[Row]:
    upstream = (await opened(services, answering, 0)).port
    ways = await doors(services, upstream, token)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, door in ways.items():
            rates[name].append(await door.per_second(seconds))
            times[name].append(await asyncio.to_thread(door.p50_ms))
    rate = {name: statistics.median(each) for name, each in rates.items()}
    p50 = {name: statistics.median(each) for name, each in times.items()}
    ours, added = rate["as_written"], p50["as_written"] - p50["direct"]
    what = f"calls through the gateway, {CONNECTIONS} connections"
    rows = [
        Row(what, f"{ours:.0f}/s", f"{said}: {rate[name]:.0f}/s", ours / rate[name], target, met)
        for name, said, target, met in (
            ("by_hand", "HAProxy configured by hand", "≥ 0.9", ours >= 0.9 * rate["by_hand"]),
            ("passing_on", "HAProxy that checks no token", COMPARISON, True),
        )
    ]
    before = f"direct: {p50['direct']:.2f} ms"
    through = f"{p50['as_written']:.2f} ms (+{added:.2f} ms)"
    ratio = p50["as_written"] / p50["direct"]
    rows.append(Row("one call, p50", through, before, ratio, "≤ 0.3 ms more", added <= 0.3))
    return rows


async def streams(services: Services, token: str, mib: int) -> list[Row]:
    upstream = services._port()
    server = multiprocessing.Process(target=stream, args=(mib, upstream), daemon=True)
    server.start()
    try:
        ways = await doors(services, upstream, token)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, door in ways.items():
                speeds[name].append(await door.mib_per_second())
    finally:
        server.kill()
        server.join()
    speed = {name: statistics.median(each) for name, each in speeds.items()}
    ours, what = speed["as_written"], f"{mib} MiB streamed through the gateway"
    return [
        Row(what, f"{ours:.0f} MiB/s", f"{said}: {base:.0f} MiB/s", ours / base, target, met)
        for said, base, target, met in (
            ("direct", speed["direct"], "≥ 0.9", ours >= 0.9 * speed["direct"]),
            ("HAProxy configured by hand", speed["by_hand"], COMPARISON, True),
        )
    ]


# A second replica


async def second_answers(yard: BenchYard, uuid: str, haproxy: Haproxy) -> None:
    """From the request for it until the gateway calls it, and it answers."""
    path = f"/deployments/{uuid}/scale"
    await yard.system.call(yard.api, "POST", path, json={"replicas": 2})
    for port in await called(haproxy, 2):
        await answers(port)


async def called(haproxy: Haproxy, count: int) -> list[int]:
    """The ports of all replicas, once there are so many."""
    while True:
        backends = servers_of(await haproxy.ask("show servers state")).values()
        ports = [server.port for servers in backends for server in servers.values()]
        if len(ports) == count:
            return ports
        await asyncio.sleep(POLL_S)


async def docker_run_answers(yard: BenchYard, image: str) -> None:
    command = ["docker", "-H", yard.system.docker_host, "run", "-d", "--label", "bench=1"]
    name = (await run(*command, "-p", "127.0.0.1::8080", image)).strip()
    told = await run("docker", "-H", yard.system.docker_host, "port", name, "8080")
    await answers(int(told.strip().rpartition(":")[2]))


async def answers(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                (await client.get(f"http://127.0.0.1:{port}/")).raise_for_status()
                return
            except httpx.TransportError:
                await asyncio.sleep(POLL_S)


async def scaling(services: Services, scales: int) -> Row:
    async with bench_yard() as yard:
        haproxy = services.haproxy(yard.system.settings["SIGNING_KEY"])
        await haproxy.start()
        await yard.system.gateway(haproxy)
        image = await yard.system.image(yard.api, yard.image)
        health = {"port": 8080, "interval_s": 0.1}
        spec = {"name": "chat", "template": {"image": image["uuid"], "health": health}}
        bounds = {"min_replicas": 1, "max_replicas": 2, "drain_s": 0}
        waiting = {"wait": 60}
        asked = {"json": spec | bounds, "params": waiting}
        made = (await yard.system.call(yard.api, "POST", "/deployments", **asked)).json()
        assert made["status"] == "DEPLOYED", made
        mine, docker = [], []
        known = Haproxy(haproxy.run_folder)
        for _ in range(scales):
            await called(known, 1)
            mine.append(await timed(partial(second_answers, yard, made["uuid"], known)))
            path = f"/deployments/{made['uuid']}/scale"
            await yard.system.call(yard.api, "POST", path, json={"replicas": 1}, params=waiting)
            docker.append(await timed(partial(docker_run_answers, yard, image["pinned"])))
        await yard.system.call(yard.api, "DELETE", f"/deployments/{made['uuid']}", params=waiting)
        await clear(yard)
    ours, theirs = statistics.median(mine), statistics.median(docker)
    return Row(
        "scale 1 → 2 until the second replica is called and answers, median",
        f"{ours * 1000:.0f} ms",
        f"docker run until it answers: {theirs * 1000:.0f} ms",
        ours / theirs,
        "≤ 1.3",
        ours <= 1.3 * theirs,
    )


async def main(seconds: float, mib: int, scales: int) -> None:
    at = now()
    claims = Claims(
        subject="user:1",
        org=ORG,
        name="ada",
        role=Role.MEMBER,
        kind=TokenKind.ACCESS,
        id="9a9e9f1c-0a51-4d8b-a61e-6f1c3a9f0001",
        session="9a9e9f1c-0a51-4d8b-a61e-6f1c3a9f0002",
        user="9a9e9f1c-0a51-4d8b-a61e-6f1c3a9f0003",
        issued_at=at,
        expires_at=at + timedelta(hours=2),
    )
    token, services = Signer(KEY).sign(claims), Services()
    try:
        rows = await calls(services, token, seconds) if seconds else []
        rows += await streams(services, token, mib) if mib else []
        rows += [await scaling(services, scales)] if scales else []
    finally:
        await services.stop()
    keep("gateway", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5, help="of each turn of calls")
    parser.add_argument("--mib", type=int, default=1024, help="of each stream")
    parser.add_argument("--scales", type=int, default=15)
    given = parser.parse_args()
    asyncio.run(main(given.seconds, given.mib, given.scales))
