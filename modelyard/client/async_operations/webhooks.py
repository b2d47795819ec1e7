"""Operations: webhooks.

Made of the OpenAPI document by `make docs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from modelyard.client.asynchronous import AsyncSender
from modelyard.client.calls import Call

if TYPE_CHECKING:
    from modelyard.client.types.webhooks import (
        SigningSecretsView,
        Webhook,
        WebhookDelivery,
        WebhookDeliveryStatus,
        WebhookEdit,
        WebhookSpec,
    )


class AsyncWebhooks(AsyncSender):
    """Webhooks."""

    async def create_webhook(
        self, body: WebhookSpec, *, idempotency_key: str | None = None
    ) -> Webhook:
        """Have a URL told of what happens from now on, signed after Standard Webhooks."""
        found: Webhook = await self._json(
            Call(
                "POST", "/yard/v1/webhooks", headers={"Idempotency-Key": idempotency_key}, body=body
            )
        )
        return found

    def list_webhooks(self, *, limit: int | None = None) -> AsyncIterator[Webhook]:
        """Webhooks of the organisation, newest first."""
        return self._pages(Call("GET", "/yard/v1/webhooks"), limit)

    async def get_webhook(self, webhook: str) -> Webhook:
        """One webhook, by its id or its name."""
        found: Webhook = await self._json(Call("GET", "/yard/v1/webhooks/{}", (webhook,)))
        return found

    async def edit_webhook(
        self, webhook: str, body: WebhookEdit, *, if_match: str | None = None
    ) -> Webhook:
        """Change where it goes or of what it tells, disable it, or enable it from now on."""
        found: Webhook = await self._json(
            Call(
                "PATCH",
                "/yard/v1/webhooks/{}",
                (webhook,),
                headers={"if-match": if_match},
                body=body,
            )
        )
        return found

    async def delete_webhook(self, webhook: str, *, if_match: str | None = None) -> Webhook:
        """Tell nothing any more; what waits to be sent is not sent."""
        found: Webhook = await self._json(
            Call("DELETE", "/yard/v1/webhooks/{}", (webhook,), headers={"if-match": if_match})
        )
        return found

    async def show_signing_secret(self, webhook: str) -> SigningSecretsView:
        """What its receiver verifies with."""
        found: SigningSecretsView = await self._json(
            Call("GET", "/yard/v1/webhooks/{}/secret", (webhook,))
        )
        return found

    async def rotate_signing_secret(
        self, webhook: str, *, keep_s: float | None = None, if_match: str | None = None
    ) -> SigningSecretsView:
        """Sign with a new secret. The one before it goes on for a while, beside it."""
        found: SigningSecretsView = await self._json(
            Call(
                "POST",
                "/yard/v1/webhooks/{}/rotate-secret",
                (webhook,),
                query={"keep_s": keep_s},
                headers={"if-match": if_match},
            )
        )
        return found

    async def send_test(
        self, webhook: str, *, idempotency_key: str | None = None
    ) -> WebhookDelivery:
        """Send an event that did not happen; what came of it stands among the deliveries."""
        found: WebhookDelivery = await self._json(
            Call(
                "POST",
                "/yard/v1/webhooks/{}/test",
                (webhook,),
                headers={"Idempotency-Key": idempotency_key},
            )
        )
        return found

    def list_deliveries(
        self, webhook: str, *, status: WebhookDeliveryStatus | None = None, limit: int | None = None
    ) -> AsyncIterator[WebhookDelivery]:
        """What was sent or waits to be, with its last tries; newest first."""
        return self._pages(
            Call("GET", "/yard/v1/webhooks/{}/deliveries", (webhook,), query={"status": status}),
            limit,
        )

    async def send_delivery_again(self, webhook: str, delivery: str) -> WebhookDelivery:
        """Send one again that was given up, or that its receiver has lost."""
        found: WebhookDelivery = await self._json(
            Call("POST", "/yard/v1/webhooks/{}/deliveries/{}/send", (webhook, delivery))
        )
        return found
