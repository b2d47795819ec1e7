"""FastStream's broker over the connection that the bus adapter keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fast_depends.pydantic import PydanticSerializer
from faststream import AckPolicy
from faststream._internal.broker import BrokerUsecase
from faststream.nats import NatsBroker

from pipeline.adapters.bus import Bus

SHOWN_ADDRESS = "nats://127.0.0.1:4222"
"""The server named in the AsyncAPI document; real addresses come from the settings."""


class YardBroker(NatsBroker):
    """One connection per process: the one that reconnects for ever is the adapter's.

    `bus` is None where nothing will be started, as for writing the AsyncAPI document.
    """

    def __init__(self, bus: Bus | None, *, middlewares: Iterable[Any], drain_s: float) -> None:
        super().__init__(
            SHOWN_ADDRESS,
            middlewares=tuple(middlewares),
            ack_policy=AckPolicy.MANUAL,
            # Or data that does not fit would look like a fault inside the handler.
            serializer=PydanticSerializer(use_fastdepends_errors=True),
            graceful_timeout=drain_s,
            logger=None,
        )
        self._bus = bus
        self.drain_s = drain_s

    @property
    def bus(self) -> Bus:
        if self._bus is None:
            raise RuntimeError("This broker only describes; it has no connection.")
        return self._bus

    async def _connect(self) -> Any:
        self.config.connect(self.bus.client)
        return self.bus.client

    async def stop(self, *exc_info: Any) -> None:
        """Stop the subscribers; the connection is not ours to close."""
        await BrokerUsecase.stop(self, *exc_info)
        self._connection = None
        self.config.disconnect()
