"""Versions of models: their descriptions, their files, and whether they are in use."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.core import records
from pipeline.core.model_endings import retired
from pipeline.core.model_writes import Change, ModelWrites, version_id
from pipeline.errors import AlreadyExists, Conflict, InvalidInput
from pipeline.rules import model_requirements, semantic_versions
from schemas.access import Principal
from schemas.message import Message
from schemas.model import (
    Activation,
    Model,
    ModelInput,
    ModelOutput,
    ModelVersion,
    Processing,
    Timeouts,
)
from schemas.model_requests import (
    InputPatch,
    OutputPatch,
    ProcessingPatch,
    TimeoutPatch,
    VersionPatch,
)

if TYPE_CHECKING:
    from pipeline.adapters.store import Store
    from pipeline.core.outbox import Outbox

TEXTS = ("long_description", "technical_details", "performance_summary")
UNSAFE_NAMES = frozenset({".", ".."})


class ModelVersions:
    """Every call acts for the organisation of its caller and sees nothing of others."""

    def __init__(
        self, store: Store, outbox: Outbox, writes: ModelWrites, clock: records.Clock
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._writes = writes
        self._clock = clock

    async def create(self, caller: Principal, model: Model, version: str) -> ModelVersion:
        """Raises InvalidInput, and AlreadyExists when the model has this version."""
        semantic_versions.require(version)
        at = self._clock()
        record = ModelVersion(
            uuid=version_id(model.uuid, version),
            org=caller.org,
            created_at=at,
            updated_at=at,
            model=model.uuid,
            model_name=model.name,
            version=version,
            created_by=caller.id,
        )
        record.outbox = [_announce(record, "created", caller, at, 1)]
        try:
            record = await self._store.insert(record)
        except AlreadyExists as taken:
            raise AlreadyExists(
                f"The model {model.uuid} has a version {version} already: choose another one.",
                **taken.facts,
            ) from taken
        await self._outbox.send(record)
        return record

    async def get(self, caller: Principal, model: str, version: str) -> ModelVersion:
        """Raises NotFound."""
        return await self._writes.load(caller.org, model, version)

    async def patch(
        self, caller: Principal, model: str, version: str, patch: VersionPatch
    ) -> ModelVersion:
        """Change what is given and leave the rest.

        Raises NotFound, InvalidInput, and Conflict for an activation before the image that counts
        has passed its load test.
        """

        def decide(current: ModelVersion, at: datetime) -> Change | None:
            wanted = _described(current, patch) | _activated(current, patch.status)
            values = {k: v for k, v in wanted.items() if getattr(current, k) != v}
            if not values:
                return None
            after = current.revision + 1
            message = _announce(current, "changed", caller, at, after, **_status(values))
            if "requirement" not in values:
                return Change(values, [message])
            ended = retired(current, at=at, actor=caller.id)
            return Change({**values, **ended.values}, [message, *ended.messages])

        return await self._writes.amend(await self.get(caller, model, version), decide)

    async def put_sample(
        self, caller: Principal, model: str, version: str, field: str, sample: Any
    ) -> ModelVersion:
        """`field` is `sample_input` or `sample_output`. Raises NotFound."""
        text = json.dumps(sample, ensure_ascii=False)
        current = await self.get(caller, model, version)
        return await self._writes.amend(current, lambda _version, _at: Change({field: text}))


def _announce(
    version: ModelVersion, kind: str, caller: Principal, at: datetime, revision: int, **facts: Any
) -> Message:
    about = {"identifier": version.model, "version": version.version, "name": version.model_name}
    about |= {"status": version.activation.value}
    return records.event(
        version, kind, at=at, actor=caller.id, revision=revision, **(about | facts)
    )


def _status(values: dict[str, Any]) -> dict[str, Any]:
    return {"status": values["activation"]} if "activation" in values else {}


def _described(current: ModelVersion, patch: VersionPatch) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: text for name in TEXTS if (text := getattr(patch, name)) is not None
    }
    if patch.requirement and patch.requirement.requirement_id is not None:
        values["requirement"] = model_requirements.find(patch.requirement.requirement_id).id
    if patch.timeout:
        values["timeouts"] = _timeouts(current.timeouts, patch.timeout)
    if patch.inputs is not None:
        values["inputs"] = _inputs(patch.inputs)
    if patch.outputs is not None:
        values["outputs"] = _outputs(patch.outputs)
    if patch.statistics is not None:
        values["statistics"] = json.dumps(patch.statistics, ensure_ascii=False)
    if patch.processing:
        values["processing"] = _processing(current.processing, patch.processing)
    return values


def _activated(current: ModelVersion, wanted: Activation | None) -> dict[str, Any]:
    if wanted is None or wanted is current.activation:
        return {}
    if wanted is Activation.PARTIAL:
        raise InvalidInput("A version cannot become partial: send active or inactive.")
    if wanted is Activation.INACTIVE and current.activation is Activation.PARTIAL:
        raise Conflict("The version was never active.")
    if wanted is Activation.ACTIVE and not current.is_loaded:
        raise Conflict(
            "The version cannot be activated before its current image has passed the load test:"
            " POST load-process first."
        )
    return {"activation": wanted.value}


def _timeouts(current: Timeouts, patch: TimeoutPatch) -> Timeouts:
    return Timeouts(run_ms=patch.run or current.run_ms, status_ms=patch.status or current.status_ms)


def _inputs(patches: list[InputPatch]) -> list[ModelInput]:
    _refuse_names([each.name for each in patches], "inputs")
    given = [ModelInput(**each.model_dump(exclude_none=True)) for each in patches]
    return given or [ModelInput(name="input")]


def _outputs(patches: list[OutputPatch]) -> list[ModelOutput]:
    _refuse_names([each.name for each in patches], "outputs")
    given = [ModelOutput(**each.model_dump(exclude_none=True)) for each in patches]
    return given or [ModelOutput(name="results.json")]


def _refuse_names(names: list[str], field: str) -> None:
    """They become files side by side in one folder."""
    wrong = [name for name in names if name in UNSAFE_NAMES or names.count(name) > 1]
    if wrong:
        raise InvalidInput(
            f"Every one of the {field} needs a file name of its own, not {wrong[0]!r}.", field=field
        )


def _processing(current: Processing, patch: ProcessingPatch) -> Processing:
    given = {
        "minimum": patch.minimum_parallel_capacity,
        "maximum": patch.maximum_parallel_capacity,
    }
    wanted = current.model_copy(update={k: v for k, v in given.items() if v is not None})
    if wanted.minimum > wanted.maximum:
        raise InvalidInput(
            "minimumParallelCapacity must not exceed maximumParallelCapacity.", field="processing"
        )
    return wanted
