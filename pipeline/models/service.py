"""Models, their versions, and small files that belong to them."""

from __future__ import annotations

import json
import secrets
import string
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline import topology
from pipeline.adapters.store.store import Store
from pipeline.errors import AlreadyExists, InvalidInput, NotFound
from pipeline.models.version_rules import patched, precedence, require_version
from pipeline.records.idempotency import id_for
from pipeline.records.kernel import Change, Records
from pipeline.records.messages import Draft, event
from schemas.access import Principal
from schemas.commands import ById, VersionOrder
from schemas.deployment import Deployment
from schemas.image import Image
from schemas.message import Message
from schemas.model import Activation, FileKind, Model, ModelFile, ModelVersion

IDENTIFIER_LENGTH: Final = 10
ALPHABET: Final = string.ascii_lowercase + string.digits
SHOWN_CHARACTERS: Final = 100
NEWEST_FIRST: Final = (("created_at", -1), ("_id", -1))
LOOK: Final = "reconcile"
"""What is asked about a deployment that its version has no use for any more."""

_VERSIONS = uuid.UUID("5a4a3f4e-6d0c-4b1e-8f0e-5f9d7b2c9a10")
_FILES = uuid.UUID("0f0f6c1c-7d0b-4a55-9f0d-3a2c1f8e7b21")


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

    def __init__(self, records: Records, versions: ModelVersions) -> None:
        self._records = records
        self._store = records.store
        self._versions = versions

    async def create(self, caller: Principal, name: str, version: str) -> ModelVersion:
        """A model with its first version. Raises InvalidInput."""
        require_version(version)
        while True:
            identifier = "".join(secrets.choice(ALPHABET) for _ in range(IDENTIFIER_LENGTH))
            initial = self._records.initial(caller.org, identifier)
            model = Model(**initial, name=name, created_by=caller.id)
            # Else somebody was given this identifier before.
            with suppress(AlreadyExists):
                model = await self._records.insert(model, [event("created")], actor=caller.id)
                break
        return await self._versions.create(caller, model, version)

    async def get(self, caller: Principal, identifier: str) -> Model:
        """Raises NotFound."""
        try:
            return await self._store.get(Model, identifier, org=caller.org)
        except NotFound:
            raise NotFound(f"There is no model {identifier[:100]}.") from None

    async def versioned(self, model: Model) -> Versioned:
        return (await self.with_versions([model]))[0]

    async def with_versions(self, models: Sequence[Model]) -> list[Versioned]:
        """All of one organisation, in the order given."""
        if not models:
            return []
        wanted = {"model": {"$in": [model.uuid for model in models]}}
        found = await self._store.find(ModelVersion, org=models[0].org, where=wanted, sort=())
        found.sort(key=lambda version: precedence(version.version))
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
        per_page: int = 100,
        sort: Sequence[tuple[str, int]] = NEWEST_FIRST,
    ) -> list[Versioned]:
        """`page` counts from 1."""
        where = {"name": name, "_id": identifier}
        found = await self._store.find(
            Model,
            org=caller.org,
            where={field: value for field, value in where.items() if value is not None},
            sort=sort,
            limit=per_page,
            skip=(page - 1) * per_page,
        )
        return await self.with_versions(found)

    async def change(self, caller: Principal, model: Model, values: Mapping[str, Any]) -> Model:
        """Write fields, whatever else has changed meanwhile."""
        change = Change(values, send=[event("changed")]) if values else None
        return await self._records.amend(model, lambda _now, _at: change, actor=caller.id)


class ModelVersions:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def create(self, caller: Principal, model: Model, version: str) -> ModelVersion:
        """Raises InvalidInput, and AlreadyExists when the model has this version."""
        require_version(version)
        record = ModelVersion(
            **self._records.initial(caller.org, version_id(model.uuid, version)),
            model=model.uuid,
            model_name=model.name,
            version=version,
            created_by=caller.id,
        )
        taken = f"The model {model.uuid} has a version {version} already: choose another one."
        return await self._records.insert(record, [event("created")], actor=caller.id, taken=taken)

    async def get(self, caller: Principal, model: str, version: str) -> ModelVersion:
        """Raises NotFound."""
        return await load(self._records.store, caller.org, model, version)

    async def patch(
        self, caller: Principal, version: ModelVersion, wanted: Mapping[str, Any]
    ) -> ModelVersion:
        """Change what is `wanted` as `version_rules.patched` reads it, whose errors it raises."""

        def decide(current: ModelVersion, at: datetime) -> Change | None:
            values = patched(current, wanted)
            if not values:
                return None
            ended = retired(current) if "requirement" in values else Change()
            return Change({**values, **ended.values}, send=[event("changed"), *ended.send])

        return await self._records.amend(version, decide, actor=caller.id)

    async def put_sample(self, version: ModelVersion, field: str, sample: Any) -> ModelVersion:
        """`field` is `sample_input` or `sample_output`."""
        text = json.dumps(sample, ensure_ascii=False)
        return await self._records.amend(version, lambda _now, _at: Change({field: text}))


class ModelFiles:
    """One file of a kind and name per owner; the newest takes the place of the one before."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._store = records.store

    async def put(
        self,
        org: str,
        owner: str,
        kind: FileKind,
        content: bytes,
        *,
        name: str = "",
        media_type: str = "application/octet-stream",
    ) -> ModelFile:
        """Keep a file, in place of the one of its name if there is one."""
        file = ModelFile(
            **self._records.initial(org, file_id(owner, kind, name)),
            owner=owner,
            kind=kind,
            name=name,
            media_type=media_type,
            content=content,
        )
        kept = await self._records.insert_once(file, [])
        if not kept.replayed:
            return kept
        # Of several that are sent at the same time the last one stays.
        change = Change({"content": content, "media_type": media_type})
        return await self._records.amend(kept, lambda _now, _at: change)

    async def find(self, org: str, owner: str, kind: FileKind, name: str = "") -> ModelFile | None:
        return await self._store.find_by_id(ModelFile, file_id(owner, kind, name), org=org)

    async def test_inputs(self, version: ModelVersion) -> list[ModelFile]:
        """Those of declared inputs, in the order of their declaration."""
        names = [each.name for each in version.inputs]
        ids = [file_id(version.uuid, FileKind.TEST_INPUT, name) for name in names]
        where = {"_id": {"$in": ids}}
        found = await self._store.find(ModelFile, org=version.org, where=where, sort=())
        return sorted(found, key=lambda file: ids.index(file.uuid))

    async def put_test_input(self, version: ModelVersion, name: str, content: bytes) -> ModelFile:
        """Raises InvalidInput when the version declares no such input."""
        if name not in {each.name for each in version.inputs}:
            known = ", ".join(each.name for each in version.inputs)
            raise InvalidInput(
                f"The version has no input {name[:100]!r}: its inputs are {known}.", field="name"
            )
        return await self.put(version.org, version.uuid, FileKind.TEST_INPUT, content, name=name)


def version_id(model: str, version: str) -> str:
    """uuid of the version: the same version of a model cannot exist twice."""
    return str(uuid.uuid5(_VERSIONS, f"{model}\n{version}"))


def order(verb: str, attempt: str | None) -> Draft:
    """To load or run a version."""

    def draft(version: ModelVersion, at: datetime, actor: str | None) -> Message:
        which = VersionOrder(identifier=version.model, version=version.version, attempt=attempt)
        return Message(
            id=f"{version.uuid}.{version.revision}.cmd-{verb}.{attempt}",
            subject=topology.command(version.org, Image.resource, verb),
            type=f"modelyard.cmd.{Image.resource}.{verb}",
            time=at,
            actor=actor,
            data=which.model_dump(),
        )

    return draft


def retired(now: ModelVersion) -> Change:
    """What a write must hold so that the deployment that answers calls is out of use, and ends.

    Changes nothing when there is none.
    """
    if now.serving is None:
        return Change()
    uuid = deployment_id(now.org, now.serving)

    def look(version: ModelVersion, at: datetime, actor: str | None) -> Message:
        return Message(
            id=f"{version.uuid}.{version.revision}.cmd-{LOOK}",
            subject=topology.command(version.org, Deployment.resource, LOOK),
            type=f"modelyard.cmd.{Deployment.resource}.{LOOK}",
            time=at,
            actor=actor,
            data=ById(id=uuid).model_dump(),
        )

    return Change({"serving": None}, send=[look])


def deployment_id(org: str, serving: str) -> str:
    """uuid of the deployment that a version's `serving` stands for, also before it is made."""
    return id_for(org, Deployment.resource, serving)


async def load(store: Store, org: str, model: str, version: str) -> ModelVersion:
    """Raises NotFound."""
    try:
        return await store.get(ModelVersion, version_id(model, version), org=org)
    except NotFound:
        raise NotFound(
            f"The model {model[:SHOWN_CHARACTERS]} has no version {version[:SHOWN_CHARACTERS]}."
        ) from None


def file_id(owner: str, kind: FileKind, name: str) -> str:
    """There is one file of a name: the next one takes its place."""
    return str(uuid.uuid5(_FILES, f"{owner}\n{kind}\n{name}"))
