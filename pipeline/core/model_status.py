"""Asking a starting model for its status until it says something that can be judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.adapters.http_guard import Limits, Reply
from pipeline.core.model_containers import is_json_object, media_type
from pipeline.errors import (
    AddressRefused,
    NeverListened,
    RegistryUnavailable,
    StatusContentType,
    StatusError,
    StatusNotJson,
)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
BODY_MAX_BYTES = 1024 * 1024
SHOWN_CHARACTERS = 500

Ask = Callable[[Limits], Awaitable[Reply]]
"""One request; raises RegistryUnavailable when nobody answers."""


class StatusCheck:
    """One per container; it remembers what was answered, for those who look for the cause."""

    def __init__(self, ask: Ask, *, call: str, port: int, timeout_s: float) -> None:
        """`call` is what callers know it as. `timeout_s` is what was granted in all."""
        self._ask = ask
        self._call = call
        self._port = port
        self._timeout_s = timeout_s
        self._status: int | None = None
        self.answered = f"{call} was never answered"

    async def until_ready(self, remaining_s: Callable[[], float]) -> None:
        """Returns once the answer is 200, declared as JSON, and a JSON object.

        Raises StatusContentType and StatusNotJson for a 200 of another kind at once, StatusError
        and NeverListened when no time remains.
        """
        pause_s = FIRST_PAUSE_S
        while (left_s := remaining_s()) > 0:
            reply = await self._asked(left_s)
            if reply is not None and reply.status == 200:
                return self._judge(reply)
            await asyncio.sleep(min(pause_s, max(remaining_s(), 0)))
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        if self._status is None:
            raise never_listened(self._port, self._timeout_s)
        raise StatusError(
            f"{self._call} answered {self._status} until {self._timeout_s:g} s were over."
        )

    async def _asked(self, left_s: float) -> Reply | None:
        # A model may take its time to answer; that it listens is seen by the connection.
        limits = Limits(total_s=left_s, body_max_bytes=BODY_MAX_BYTES, redirects=0)
        try:
            reply = await self._ask(limits)
        except (RegistryUnavailable, AddressRefused) as error:
            redirect = error.facts.get("status")
            if isinstance(redirect, int):
                self._note(redirect, "which is a redirect")
            elif self._status is None:
                self.answered = f"{self._call} was never answered: {error.message}"
            return None
        text = reply.body[:SHOWN_CHARACTERS].decode(errors="replace")
        self._note(reply.status, f"{media_type(reply) or 'no content type'}: {text}")
        return reply

    def _note(self, status: int, body: str) -> None:
        self._status = status
        self.answered = f"{self._call} answered {status}, {body}"

    def _judge(self, reply: Reply) -> None:
        kind = media_type(reply)
        if kind != "application/json":
            raise StatusContentType(
                f"{self._call} answered with the content type {kind or 'of nothing'}:"
                " it must be application/json."
            )
        if not is_json_object(reply):
            raise StatusNotJson(f"{self._call} answered 200, but the body is not a JSON object.")


def never_listened(port: int, timeout_s: float) -> NeverListened:
    return NeverListened(
        f"Nothing answered on port {port} within {timeout_s:g} s: the model has to listen on the"
        " port that PSC_MODEL_PORT names."
    )
