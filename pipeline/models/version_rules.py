"""What may be said of a version: its number, what it asks of a node, and what it declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pipeline.errors import Conflict, InvalidInput
from schemas.model import Activation, ModelInput, ModelOutput, ModelVersion

VERSION_MAX: Final = 100
"""The version becomes a tag in the registry, which may have 128 characters."""
NUMBER_MAX: Final = 10**18 - 1
GIB: Final = 2**30

Precedence: TypeAlias = tuple[Any, str]


def require_version(text: str) -> str:
    """`text`, when it is a version of Semantic Versioning 2.0.0. Raises InvalidInput."""
    if len(text) > VERSION_MAX or not _is_version(text):
        raise InvalidInput(
            f"{text[:VERSION_MAX]!r} is not a semantic version: write it like 1.0.0.",
            field="version",
        )
    return text


def precedence(text: str) -> Precedence:
    """Sorts versions from old to new; build metadata only breaks ties."""
    version = _semver().parse(text)
    return version, version.build or ""


def _is_version(text: str) -> bool:
    # The library also takes digits of other scripts.
    is_valid = text.isascii() and _semver().is_valid(text)
    return is_valid and max(_semver().parse(text).to_tuple()[:3]) <= NUMBER_MAX


def _semver() -> Any:
    """Loaded with the first version: most processes never see one."""
    from semver import Version

    return Version


@dataclass(frozen=True, slots=True)
class InstanceType:
    """Limits of a container and what a node must have free for it."""

    id: int
    cpus: int
    memory_gib: int
    gpus: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.memory_gib * GIB

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.cpus} CPU, {self.memory_gib} GiB of memory{gpus}"


LISTED: Final = (
    InstanceType(1, cpus=1, memory_gib=1),
    InstanceType(2, cpus=1, memory_gib=2),
    InstanceType(3, cpus=2, memory_gib=4),
    InstanceType(4, cpus=4, memory_gib=8),
    InstanceType(5, cpus=8, memory_gib=16),
    InstanceType(6, cpus=16, memory_gib=64),
)
_WELL_KNOWN: Final = (
    InstanceType(-6, cpus=1, memory_gib=4, gpus=1),
    # What it means for the platform is decided by the image, not by the number.
    InstanceType(-99, cpus=1, memory_gib=1),
)
"""Clients send these without looking into the list, where programs that choose by size would find
them."""
_BY_ID: Final = {each.id: each for each in (*LISTED, *_WELL_KNOWN)}


def find_requirement(id: int) -> InstanceType:
    """How much of a node a number stands for. Raises InvalidInput."""
    if id not in _BY_ID:
        known = ", ".join(str(each) for each in sorted(_BY_ID))
        raise InvalidInput(
            f"There is no requirement {id}: choose one of {known}.", field="requirement"
        )
    return _BY_ID[id]


def patched(current: ModelVersion, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a version that change when it becomes what is `wanted`, by its fields.

    `timeouts` and `processing` may be given in part, `statistics` as a value. Raises InvalidInput,
    and Conflict for an activation before the image that counts has passed its load test.
    """
    values = dict(wanted)
    if "requirement" in values:
        find_requirement(values["requirement"])
    for part in values.keys() & {"timeouts", "processing"}:
        values[part] = getattr(current, part).model_copy(update=values[part])
    for field in values.keys() & {"inputs", "outputs"}:
        _require_file_names(field, values[field])
        values[field] = values[field] or ModelVersion.model_fields[field].get_default(
            call_default_factory=True
        )
    if "statistics" in values:
        values["statistics"] = json.dumps(values["statistics"], ensure_ascii=False)
    processing = values.get("processing", current.processing)
    if processing.minimum > processing.maximum:
        raise InvalidInput(
            "The minimum of containers must not exceed the maximum.", field="processing"
        )
    changed = {field: value for field, value in values.items() if getattr(current, field) != value}
    _require_activation(current, changed.get("activation"))
    return changed


def _require_file_names(field: str, declared: Sequence[ModelInput | ModelOutput]) -> None:
    """They become files side by side in one folder."""
    names = [each.name for each in declared]
    wrong = [name for name in names if name in (".", "..") or names.count(name) > 1]
    if wrong:
        raise InvalidInput(
            f"Every one of the {field} needs a file name of its own, not {wrong[0]!r}.", field=field
        )


def _require_activation(current: ModelVersion, wanted: Activation | None) -> None:
    if wanted is Activation.PARTIAL:
        raise InvalidInput("A version cannot become partial: send active or inactive.")
    if wanted is Activation.INACTIVE and current.activation is Activation.PARTIAL:
        raise Conflict("The version was never active.")
    if wanted is Activation.ACTIVE and not current.is_loaded:
        raise Conflict(
            "The version cannot be activated before its current image has passed the load test:"
            " POST load-process first."
        )
