"""Operations: messages.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal

from modelyard.client.asynchronous import AsyncSender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.calls import Event
    from modelyard.client.types.messages import AuditEntryView, DeadLetter, Timeline


class AsyncMessages(AsyncSender):
    """Messages."""

    def follow_events(
        self,
        *,
        resource: list[
            Literal[
                "audit-entry",
                "build",
                "catalog",
                "catalog-row",
                "container",
                "dead-letter",
                "deployment",
                "image",
                "model",
                "model-file",
                "model-version",
                "node",
                "organisation",
                "registry",
                "registry-history",
                "registry-space",
                "secret",
                "token",
                "upload",
                "user",
                "volume",
                "webhook",
                "webhook-delivery",
            ]
        ]
        | None = None,
        id: list[str] | None = None,
        kind: str | None = None,
        after: str | None = None,
    ) -> AsyncIterator[Event]:
        """Every event of the organisation, from now on or from a given event on, in order, once."""
        return self._events(
            Call("GET", "/yard/v1/events", query={"resource": resource, "id": id, "kind": kind}),
            after,
        )

    def list_dead_letters(self, *, limit: int | None = None) -> AsyncIterator[DeadLetter]:
        """Newest first, with the reason and the history of attempts, without payloads."""
        return self._pages(Call("GET", "/yard/v1/dead-letters"), limit)

    async def get_dead_letter(self, id: str) -> DeadLetter:
        """One message. Of its payload, values that the schema calls secret or environment are
        masked; of what no schema knows there are keys and types."""
        found: DeadLetter = await self._json(Call("GET", "/yard/v1/dead-letters/{}", (id,)))
        return found

    async def drop_dead_letter(self, id: str) -> None:
        """Forget it."""
        await self._nothing(Call("DELETE", "/yard/v1/dead-letters/{}", (id,)))

    async def reveal_dead_letter(self, id: str) -> DeadLetter:
        """The whole message as it was published, secrets included. Each look is told as the
        event `dead-letter.revealed`, with who looked."""
        found: DeadLetter = await self._json(Call("GET", "/yard/v1/dead-letters/{}/text", (id,)))
        return found

    async def requeue_dead_letter(self, id: str) -> DeadLetter:
        """Give it to the workers again, under its own id; the letter is removed."""
        found: DeadLetter = await self._json(
            Call("POST", "/yard/v1/dead-letters/{}/requeue", (id,))
        )
        return found

    async def get_timeline(self, resource: str, id: str, *, limit: int | None = None) -> Timeline:
        """Every event of one record, the oldest first, with the durations between them."""
        found: Timeline = await self._json(
            Call("GET", "/yard/v1/{}/{}/timeline", (resource, id), query={"limit": limit})
        )
        return found

    def list_audit_entries(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        origin: str | None = None,
        request_id: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AuditEntryView]:
        """What people, tokens and commands did, newest first: made from the events, so it is
        never without what happened, and a second or two behind it. It holds no values, only
        names."""
        return self._pages(
            Call(
                "GET",
                "/yard/v1/audit",
                query={
                    "actor": actor,
                    "action": action,
                    "target": target,
                    "origin": origin,
                    "request_id": request_id,
                    "since": since,
                    "until": until,
                },
            ),
            limit,
        )
