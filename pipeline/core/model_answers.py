"""Why a model's answer to a run cannot be used, with what its container wrote last."""

from __future__ import annotations

from typing import Final

from pipeline.adapters.http_guard import Reply
from pipeline.core.model_containers import ModelContainers
from pipeline.errors import ModelRefused, RegistryUnavailable, RunFailed, RunTimedOut
from schemas.access import Principal
from schemas.container import Container

SHOWN_CHARACTERS: Final = 500


class ModelAnswers:
    """Reads logs only when there is something to explain."""

    def __init__(self, containers: ModelContainers) -> None:
        self._containers = containers

    async def missing(
        self,
        caller: Principal,
        container: Container,
        error: RegistryUnavailable,
        *,
        timeout_s: float,
    ) -> ModelRefused:
        """There was no answer, or not within `timeout_s`."""
        technical = await self._containers.last_lines(caller, container)
        call = self._containers.dialect(container).run_call
        if error.facts.get("kind") == "timeout":
            message = f"{call} was not answered within {timeout_s:g} s."
            return RunTimedOut(message, technical=technical)
        return RunFailed(f"{call} failed: {error.message}", technical=technical)

    async def refused(self, caller: Principal, container: Container, reply: Reply) -> ModelRefused:
        """The answer is not 2xx."""
        said = reply.body[:SHOWN_CHARACTERS].decode(errors="replace")
        lines = await self._containers.last_lines(caller, container)
        call = self._containers.dialect(container).run_call
        message = f"{call} answered {reply.status}: {said}"
        return RunFailed(message, technical=f"{message}\n{lines}")
