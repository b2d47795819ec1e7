"""Host ports: picked by the agent and pinned, because an engine would reassign them on restart."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from pipeline.errors import Misconfigured
from schemas.container import PortBinding, PortSpec

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class HostPorts:
    """Free ports of one address. A port just handed out is not handed out again for a while."""

    def __init__(self, address: str, *, memory: int = 512) -> None:
        self._address = address
        self._memory = memory
        self._recent: dict[int, None] = {}

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

    def _remember(self, port: int) -> None:
        self._recent[port] = None
        if len(self._recent) > self._memory:
            del self._recent[next(iter(self._recent))]
