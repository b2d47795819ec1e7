"""What this machine has to give: GPUs, as somebody last saw them, and host ports."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.errors import Misconfigured
from pipeline.ports import GpuInventory, GpuReading, GpuUse
from schemas.container import PortBinding, PortSpec
from schemas.node import Gpu

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_SOCKETS: Final = Path("/proc/net")
_WAITING: Final = {"tcp": "0A", "udp": "07"}
"""State of a socket that whoever may speak to, as `proc_pid_net(5)` and `tcp_states.h` write it."""
REFUSED_S: Final = 60.0
"""How long the engine's word counts that a port is taken where no socket shows it."""


class Devices:
    """Before the first reading nothing is known, so nothing is held against any GPU."""

    def __init__(self, inventory: GpuInventory, ports: HostPorts) -> None:
        self.ports = ports
        self._inventory = inventory
        self._known: dict[str, Gpu] | None = None

    async def read(self) -> GpuReading:
        """Look again. Raises GpusUnreadable; then what was known before still counts."""
        reading = await asyncio.to_thread(self._inventory.read)
        self._known = {gpu.uuid: gpu for gpu in reading.gpus}
        return reading

    async def use(self, uuids: Sequence[str]) -> Sequence[GpuUse]:
        """Raises GpusUnreadable."""
        return await asyncio.to_thread(self._inventory.use, uuids)

    def lost(self, uuids: Iterable[str]) -> str | None:
        """Says which of these GPUs are gone; None when all are there."""
        known = self._known
        if known is None:
            return None
        gone = [uuid for uuid in uuids if uuid not in known or known[uuid].lost]
        return f"lost its GPU {', '.join(gone)}" if gone else None

    def unfit(self, uuids: Iterable[str]) -> str | None:
        """As `lost`, and also when one is out of order: what runs there may go on, nothing is
        started there."""
        uuids = list(uuids)
        if (lost := self.lost(uuids)) is not None or self._known is None:
            return lost
        sick = [f"{uuid} ({self._known[uuid].fault})" for uuid in uuids if self._is_sick(uuid)]
        return f"its GPU is out of order: {', '.join(sick)}" if sick else None

    def _is_sick(self, uuid: str) -> bool:
        return self._known is not None and not self._known[uuid].healthy


class HostPorts:
    """Free ports of one address. A port just handed out is not handed out again for a while."""

    def __init__(self, address: str, *, memory: int = 512) -> None:
        self._address = address
        self._memory = memory
        self._recent: dict[int, None] = {}
        self._refused: dict[str, float] = {}

    async def in_use(self) -> set[str]:
        """`8080/tcp`: what something listens on where ours would, or the engine refused lately."""
        found = await asyncio.to_thread(self._listening)
        end = time.monotonic() - REFUSED_S
        self._refused = {port: at for port, at in self._refused.items() if at > end}
        return found | self._refused.keys()

    def refused(self, wanted: Sequence[PortSpec]) -> list[str]:
        """Which ports asked for by number are to blame for the engine's refusal.

        Where no socket tells, all are, unless another one, chosen here, may be; that is remembered.
        """
        fixed = [_named(port.host, port.protocol) for port in wanted if port.host]
        if (taken := self.taken(wanted)) or len(fixed) < len(wanted):
            return taken
        self._refused |= dict.fromkeys(fixed, time.monotonic())
        return fixed

    def taken(self, wanted: Sequence[PortSpec]) -> list[str]:
        """Those asked for by number that nobody could listen on now."""
        return [
            _named(port.host, port.protocol)
            for port in wanted
            if port.host and not self._can_listen(port.host, port.protocol)
        ]

    def bind(self, wanted: Sequence[PortSpec]) -> list[PortBinding]:
        """Bindings for `wanted`; only the engine can say later whether they really were free.

        Raises Misconfigured for an address that this machine does not have.
        """
        return [
            PortBinding(
                internal=port.internal,
                host=port.host or self._free(port.protocol),
                protocol=port.protocol,
                address=self._address,
            )
            for port in wanted
        ]

    def _free(self, protocol: str) -> int:
        while True:
            with socket.socket(socket.AF_INET, _KINDS[protocol]) as probe:
                try:
                    probe.bind((self._address, 0))
                except OSError as error:
                    raise Misconfigured(
                        f"No port can be had on {self._address} ({error.strerror}): correct"
                        " MODELYARD_CONTAINER_BIND."
                    ) from error
                port = int(probe.getsockname()[1])
            if port not in self._recent:
                self._remember(port)
                return port

    def _can_listen(self, port: int, protocol: str) -> bool:
        with socket.socket(socket.AF_INET, _KINDS[protocol]) as probe:
            if protocol == "tcp":
                # As whoever publishes it: connections that linger are in nobody's way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._address, port))
            except OSError:
                return False
        return True

    def _listening(self) -> set[str]:
        try:
            mine = ipaddress.ip_address(socket.gethostbyname(self._address))
        except OSError:
            # The first launch with a port says so; until then every listener is in the way.
            mine = ipaddress.IPv4Address("0.0.0.0")
        return {
            _named(port, protocol)
            for protocol in _KINDS
            for address, port in _sockets(protocol)
            if address == mine or address.is_unspecified or mine.is_unspecified
        }

    def _remember(self, port: int) -> None:
        self._recent[port] = None
        if len(self._recent) > self._memory:
            del self._recent[next(iter(self._recent))]


def _named(port: int | None, protocol: str) -> str:
    return f"{port}/{protocol}"


def _sockets(protocol: str) -> Iterator[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    """Where something waits for whoever comes, in this network namespace."""
    for table in (protocol, f"{protocol}6"):
        lines: list[str] = []
        # A machine without IPv6 has no table of it.
        with suppress(FileNotFoundError):
            lines = (_SOCKETS / table).read_text().splitlines()[1:]
        for line in lines:
            _, local, _, state = line.split(maxsplit=4)[:4]
            if state == _WAITING[protocol]:
                address, _, port = local.partition(":")
                yield _address(address), int(port, 16)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Words of 32 bits, each as this machine keeps them."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    packed = b"".join(word if sys.byteorder == "big" else word[::-1] for word in words)
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address
