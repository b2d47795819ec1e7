"""Asking a starting model for its status until it says something that can be judged."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from pipeline import errors
from pipeline.adapters.http.guarded import Limits, Reply
from pipeline.models.runtime.client import SHOWN_CHARACTERS, Dialect, ModelClient
from pipeline.models.runtime.container_spec import model_port
from schemas.container import Container

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 1.0
BODY_MAX_BYTES: Final = 1024 * 1024


class StatusCheck:
    """One per container; it remembers what was answered, for those who look for the cause."""

    def __init__(self, client: ModelClient, container: Container, *, timeout_s: float) -> None:
        """`timeout_s` is what was granted in all."""
        self._client = client
        self._container = container
        self._call = client.dialect(container).status_call
        self._timeout_s = timeout_s
        self._status: int | None = None
        self._redirect = ""
        self.answered = f"{self._call} was never answered"

    async def until_ready(self, left_s: float) -> None:
        """Returns once the answer is 200, declared as JSON, and a JSON object.

        Raises StatusContentType and StatusNotJson for a 200 of another kind at once, StatusError
        and NeverListened when `left_s` are over.
        """
        now, pause_s = asyncio.get_running_loop().time, FIRST_PAUSE_S
        end = now() + left_s
        while (left_s := end - now()) > 0:
            reply = await self._asked(left_s)
            if reply is not None and reply.status == 200:
                return require_ready(self._call, reply)
            await asyncio.sleep(min(pause_s, max(end - now(), 0)))
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        if self._status is None:
            raise never_listened(model_port(self._container.spec), self._timeout_s)
        raise errors.StatusError(
            f"{self._call} answered {self._status}{self._redirect} until {self._timeout_s:g} s"
            " were over."
        )

    async def _asked(self, left_s: float) -> Reply | None:
        # A model may take its time to answer; that it listens is seen by the connection.
        limits = Limits(total_s=left_s, body_max_bytes=BODY_MAX_BYTES, redirects=0)
        try:
            reply = await self._client.status(self._container, limits=limits)
        except (errors.Unreachable, errors.AddressRefused) as error:
            redirect = error.facts.get("status")
            if isinstance(redirect, int):
                self._note(redirect, "which is a redirect")
                self._redirect = ", a redirect, which is not followed (answer there and then),"
            elif self._status is None:
                self.answered = f"{self._call} was never answered: {error.message}"
            return None
        self._redirect = ""
        text = reply.body[:SHOWN_CHARACTERS].decode(errors="replace")
        self._note(reply.status, f"{_media_type(reply) or 'no content type'}: {text}")
        return reply

    def _note(self, status: int, body: str) -> None:
        self._status = status
        self.answered = f"{self._call} answered {status}, {body}"


async def ask_status(dialect: Dialect, address: str, timeout_s: float) -> int:
    """Ask the model at `address` (`http://host:port`) once. Returns 200; raises as `require_ready`,
    and Unreachable."""
    limits = Limits(total_s=timeout_s, body_max_bytes=BODY_MAX_BYTES, redirects=0)
    reply = await dialect.status(address, limits=limits)
    require_ready(dialect.status_call, reply)
    return reply.status


def require_ready(call: str, reply: Reply) -> None:
    """Of what was answered to `call`. Raises StatusError unless it is 200, StatusContentType and
    StatusNotJson for a 200 that is not declared as JSON, or no JSON object."""
    if reply.status != 200:
        raise errors.StatusError(f"{call} answered {reply.status}.")
    kind = _media_type(reply)
    if kind != "application/json":
        raise errors.StatusContentType(
            f"{call} answered with the content type {kind or 'of nothing'}:"
            " it must be application/json."
        )
    if reply.is_truncated or not _is_json_object(reply.body):
        raise errors.StatusNotJson(
            f"{call} answered 200, but the body is not a JSON object{_coding(reply)}."
        )


def never_listened(port: int, timeout_s: float) -> errors.NeverListened:
    return errors.NeverListened(
        f"Nothing answered on port {port} within {timeout_s:g} s: the model has to listen on the"
        " port that PSC_MODEL_PORT names."
    )


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _coding(reply: Reply) -> str:
    coding = str(reply.headers.get("content-encoding", "")).strip().lower()
    if coding in ("", "identity"):
        return ""
    return f": it is encoded as {coding[:50]!r}, which nobody asked for"


def _media_type(reply: Reply) -> str:
    return str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()
