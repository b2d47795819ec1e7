"""Models: what versions belong to. Their versions: `model_versions`."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.core import records
from pipeline.errors import AlreadyExists, InvalidInput, LostRace, NotFound
from pipeline.rules import semantic_versions
from schemas.access import Principal
from schemas.message import Message
from schemas.model import Activation, Model, ModelVersion
from schemas.model_requests import ModelPatch, NewModel

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.model_versions import ModelVersions
    from pipeline.core.outbox import Outbox

IDENTIFIER_LENGTH: Final = 10
ALPHABET: Final = string.ascii_lowercase + string.digits
PER_PAGE: Final = 100
PER_PAGE_MOST: Final = 1000
SORTED_BY: Final[Mapping[str, str]] = {
    "name": "name",
    "description": "description",
    "identifier": "_id",
    "modelId": "_id",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
}


@dataclass(frozen=True, slots=True)
class Versioned:
    """A model with its versions, oldest first."""

    model: Model
    versions: Sequence[ModelVersion]

    @property
    def latest(self) -> str | None:
        return self.versions[-1].version if self.versions else None

    @property
    def latest_active(self) -> str | None:
        active = [v.version for v in self.versions if v.activation is Activation.ACTIVE]
        return active[-1] if active else None


class Models:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self, store: Store, outbox: Outbox, versions: ModelVersions, clock: records.Clock
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._versions = versions
        self._clock = clock

    async def create(self, caller: Principal, wanted: NewModel) -> ModelVersion:
        """A model with its first version. Raises InvalidInput."""
        semantic_versions.require(wanted.version)
        while True:
            at = self._clock()
            model = Model(
                uuid=new_identifier(),
                org=caller.org,
                created_at=at,
                updated_at=at,
                name=wanted.name,
                created_by=caller.id,
            )
            model.outbox = [_announce(model, "created", caller, 1, at)]
            try:
                model = await self._store.insert(model)
            except AlreadyExists:
                continue  # somebody was given this identifier before
            await self._outbox.send(model)
            return await self._versions.create(caller, model, wanted.version)

    async def get(self, caller: Principal, identifier: str) -> Model:
        """Raises NotFound."""
        try:
            return await self._store.get(Model, identifier, org=caller.org)
        except NotFound:
            raise NotFound(f"There is no model {identifier[:100]}.") from None

    async def with_versions(self, models: Sequence[Model]) -> list[Versioned]:
        """All of one organisation, in the order given."""
        if not models:
            return []
        wanted = {"model": {"$in": [model.uuid for model in models]}}
        found = await self._store.find(ModelVersion, org=models[0].org, where=wanted, sort=())
        found.sort(key=lambda version: semantic_versions.precedence(version.version))
        return [
            Versioned(model, [each for each in found if each.model == model.uuid])
            for model in models
        ]

    async def list(
        self,
        caller: Principal,
        *,
        name: str | None = None,
        identifier: str | None = None,
        page: int = 1,
        per_page: int = PER_PAGE,
        sort_by: str | None = None,
        direction: str | None = None,
    ) -> list[Versioned]:
        """`page` counts from 1; newest first unless `sort_by` says otherwise.

        Raises InvalidInput.
        """
        where = {"name": name, "_id": identifier}
        found = await self._store.find(
            Model,
            org=caller.org,
            where={field: value for field, value in where.items() if value is not None},
            sort=_sort(sort_by, direction),
            limit=per_page,
            skip=(page - 1) * per_page,
        )
        return await self.with_versions(found)

    async def patch(self, caller: Principal, identifier: str, patch: ModelPatch) -> Model:
        """Raises NotFound."""
        return await self.change(caller, identifier, patch.model_dump(exclude_none=True))

    async def change(self, caller: Principal, identifier: str, values: Mapping[str, Any]) -> Model:
        """Write fields, whatever else has changed meanwhile. Raises NotFound."""
        while True:
            model = await self.get(caller, identifier)
            if not values:
                return model
            at = self._clock()
            message = _announce(model, "changed", caller, model.revision + 1, at)
            try:
                model = await self._store.change(model, values, at=at, messages=[message])
            except LostRace:
                continue
            await self._outbox.send(model)
            return model


def new_identifier() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(IDENTIFIER_LENGTH))


def _announce(model: Model, kind: str, caller: Principal, revision: int, at: datetime) -> Message:
    facts = {"name": model.name}
    return records.event(model, kind, at=at, actor=caller.id, revision=revision, **facts)


def _sort(sort_by: str | None, direction: str | None) -> list[tuple[str, int]]:
    order = {"asc": 1, "desc": -1}.get((direction or "").lower())
    if direction and order is None:
        raise InvalidInput("direction must be asc or desc.", field="direction")
    if sort_by is None:
        return [("created_at", order or -1), ("_id", order or -1)]
    if sort_by not in SORTED_BY:
        known = ", ".join(SORTED_BY)
        raise InvalidInput(f"Models can be sorted by {known}.", field="sort-by")
    return [(SORTED_BY[sort_by], order or 1), ("_id", order or 1)]
