"""Which host ports an agent reports, asked of this machine's own sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from pipeline.agent import machine
from pipeline.agent.machine import HostPorts
from schemas.container import PortSpec

LOOPBACK = HostPorts("127.0.0.1")


@pytest.fixture
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family, kind, address = request.param
    with closing(socket.socket(family, kind)) as made:
        made.bind((address, 0))
        if kind is socket.SOCK_STREAM:
            made.listen()
        yield made


def is_told(ports: HostPorts, listener: socket.socket) -> bool:
    protocol = "tcp" if listener.type is socket.SOCK_STREAM else "udp"
    port = listener.getsockname()[1]
    told = f"{port}/{protocol}" in asyncio.run(ports.in_use())
    wanted = PortSpec(internal=80, host=port, protocol=protocol)
    assert bool(ports.taken([wanted])) == told
    return told


@pytest.mark.parametrize(
    "listener",
    [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"),
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::ffff:127.0.0.1"),
    ],
    indirect=True,
)
def test_whatever_listens_where_ours_would_is_told(listener: socket.socket) -> None:
    assert is_told(LOOPBACK, listener)


@pytest.mark.parametrize(
    "listener", [(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.2")], indirect=True
)
def test_another_address_is_in_the_way_of_all_addresses_only(listener: socket.socket) -> None:
    assert not is_told(LOOPBACK, listener)
    assert is_told(HostPorts("0.0.0.0"), listener)
    port = listener.getsockname()[1]
    assert f"{port}/tcp" in asyncio.run(HostPorts("nowhere.invalid").in_use())


def test_a_connection_of_before_is_in_nobodys_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(server.getsockname())
        served, _ = server.accept()
    with client, served:
        served.shutdown(socket.SHUT_RDWR)
    assert f"{port}/tcp" not in asyncio.run(LOOPBACK.in_use())
    assert not LOOPBACK.taken([PortSpec(internal=80, host=port)])


def test_the_engines_word_counts_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = HostPorts("127.0.0.1")
    fixed, chosen = PortSpec(internal=80, host=1), PortSpec(internal=81)
    assert ports.refused([fixed, chosen]) == []
    assert ports.refused([fixed]) == ["1/tcp"]
    assert "1/tcp" in asyncio.run(ports.in_use())
    monkeypatch.setattr(machine, "REFUSED_S", 0)
    assert "1/tcp" not in asyncio.run(ports.in_use())
