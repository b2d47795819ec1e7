"""The container image object: how far a version's image is, computed from what is recorded."""

from __future__ import annotations

from typing import Any, Final

from pipeline.rules import references
from schemas.image import Image, ImageSource
from schemas.model import LoadTest, Phase
from schemas.states import ImageStatus

UPLOADING: Final = "Uploading container image"
CHECKING: Final = "Checking status endpoint"


def describe(image: Image, load: LoadTest) -> dict[str, Any]:
    """The object as callers see it. `load` counts only when it is about this image.

    The image must be one that was delivered to a version.
    """
    load = load if load.image == image.uuid else LoadTest()
    uploaded, step, name = image.upload.percentage, load.step, step_name(image, load.step)
    return {
        "uploadStatus": name,
        "loadStatus": f"{step}: {name} ({load.percentage}%)",
        "uploadPercentage": uploaded,
        "loadPercentage": load.percentage,
        "containerImageSize": _size(image),
        **_place(image),
        "percentage": uploaded,
        "step": step,
        "stepName": name,
        "status": _status(image, load),
        "technicalInformation": _technical(image, load),
    }


def step_name(image: Image, step: int) -> str:
    model = image.delivery.model_name if image.delivery else image.name
    return (UPLOADING, f"Loading model '{model}'", CHECKING)[step]


def has_failed(image: Image) -> bool:
    """The delivery came to nothing. Of a failed archive nothing is kept but the reason."""
    if image.status is ImageStatus.DELETED:
        return image.digest is None
    return image.status is ImageStatus.FAILED


def is_complete(image: Image) -> bool:
    return image.status is ImageStatus.READY


def _status(image: Image, load: LoadTest) -> str:
    if has_failed(image) or load.phase is Phase.FAILED:
        return "failed"
    if not is_complete(image):
        return "uploading"
    if load.phase is Phase.SUCCEEDED:
        return "loaded"
    return "loading" if load.phase is Phase.RUNNING else "uploaded"


def _size(image: Image) -> int:
    if image.source is not ImageSource.REFERENCE:
        return image.upload.done_bytes
    return image.size_bytes or 0


def _place(image: Image) -> dict[str, str | None]:
    if image.source is not ImageSource.REFERENCE:
        names = ("registryHost", "repositoryNamespace", "imagePrefix", "repositoryName")
        return dict.fromkeys(names)
    reference = references.Reference(**image.parts.model_dump())
    return {
        "registryHost": reference.registry,
        "repositoryNamespace": reference.namespace,
        "imagePrefix": reference.prefix,
        "repositoryName": reference.name,
    }


def _technical(image: Image, load: LoadTest) -> str | None:
    if has_failed(image):
        return failure_detail(image)
    # It stands there before the container is gone, while the load is still under way.
    return load.fault.technical if load.fault and load.phase is Phase.FAILED else None


def failure_detail(image: Image) -> str:
    """Never empty."""
    findings = "\n".join(f"{finding.code}: {finding.message}" for finding in image.findings)
    return findings or image.reason or "The delivery ended without a reason."
