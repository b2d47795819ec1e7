"""References into the platform's own registry: it asks nobody who he is, so we judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.adapters.store import EVERY_ORG
from pipeline.errors import InvalidReference
from pipeline.rules import repositories
from pipeline.rules.references import Reference
from schemas.model import Model

if TYPE_CHECKING:
    from pipeline.adapters.store import Store


class OwnRegistry:
    """Keeps organisations apart that share one registry."""

    def __init__(self, store: Store, registry: str) -> None:
        """`registry` is its `host:port`."""
        self._store = store
        self._registry = registry.lower()

    async def require_ones_own(self, org: str, reference: Reference) -> None:
        """Raises InvalidReference for what is kept for another organisation, there or not."""
        if not repositories.is_same_registry(reference.registry, self._registry):
            return
        model = repositories.model_of(reference.repository)
        if repositories.is_kept_for_others(org, reference.repository) or (
            model is not None and await self._is_others_model(org, model)
        ):
            raise InvalidReference(
                f"{reference} is kept for another organisation: send the image itself, or a"
                " reference to where it came from."
            )

    async def _is_others_model(self, org: str, identifier: str) -> bool:
        found = await self._store.find_one(Model, org=EVERY_ORG, where={"_id": identifier})
        return found is not None and found.org != org
