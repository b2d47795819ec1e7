"""Calls to gRPC servers of models.

The SDK is imported by the first call: most installations have no such model, and its threads and
memory are not for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pipeline.errors import Unreachable

OK: Final = "OK"
_TOO_LARGE = "Received message larger than max"
_NO_GRPC = "Failed parsing HTTP/2"

Kind = Literal["refused", "timeout", "protocol", "other"]
_SENTENCES: Final[dict[Kind, str]] = {
    "refused": "it refuses the connection",
    "timeout": "it did not answer in time",
    "protocol": "it does not speak gRPC",
    "other": "the connection failed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one call."""

    code: str
    """Name of the gRPC status, like `UNIMPLEMENTED`; with `OK` there is a message."""
    details: str
    message: bytes
    is_too_large: bool
    """The message was larger than allowed and was not read."""


class GrpcModels:
    """A connection per call: models are asked rarely, and their containers come and go."""

    async def call(
        self,
        address: str,
        port: int,
        method: str,
        request: bytes,
        *,
        total_s: float,
        max_bytes: int,
    ) -> Answer:
        """One unary call of `method` (`/Service/Method`); messages are taken as they are.

        `address` is an IP address. Raises Unreachable with `facts["kind"]`: refused,
        timeout, protocol, other.
        """
        from grpc import aio

        target = f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}"
        async with aio.insecure_channel(target, options=_options(max_bytes)) as channel:
            try:
                message = await channel.unary_unary(method)(request, timeout=total_s)
            except aio.AioRpcError as error:
                place = target.partition(":")[2]
                return _answer(error.code().name, error.details() or "", place)
        return Answer(OK, "", message, is_too_large=False)


def _options(max_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        # Shared connections would wait longer after each refusal of a model that starts.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", -1),
    ]


def _answer(code: str, details: str, place: str) -> Answer:
    """What is no answer of the server is raised."""
    if code == "DEADLINE_EXCEEDED":
        raise _unavailable(place, "timeout")
    if code in ("UNAVAILABLE", "CANCELLED"):
        raise _unavailable(place, _kind(details))
    if _TOO_LARGE in details:
        return Answer(OK, details, b"", is_too_large=True)
    return Answer(code, details, b"", is_too_large=False)


def _kind(details: str) -> Kind:
    if "Connection refused" in details:
        return "refused"
    return "protocol" if _NO_GRPC in details else "other"


def _unavailable(place: str, kind: Kind) -> Unreachable:
    return Unreachable(f"{place} cannot be reached: {_SENTENCES[kind]}.", kind=kind, host=place)
