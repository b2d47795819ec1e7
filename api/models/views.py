"""Models, versions and their images as callers see them: camel case, times with an offset.

The contract demands the image object inside events, too, which workers write; so this module is
loaded by all processes (`pipeline.records.messages`) and imports no web framework.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from pydantic.alias_generators import to_camel

from pipeline.images.delivery_events import failure_detail, has_failed
from pipeline.models.runtime.outputs import RESULTS
from pipeline.models.service import Versioned
from pipeline.models.version_rules import find_requirement
from pipeline.oci import references
from schemas.image import Image, ImageSource
from schemas.model import LoadTest, ModelInput, ModelOutput, ModelVersion, Phase, TrialRun
from schemas.states import ImageStatus

Members: TypeAlias = dict[str, Any]

UPLOADING: Final = "Uploading container image"
CHECKING: Final = "Checking status endpoint"
RUN_STEPS: Final = (
    "Loading model",
    "Fetching inputs",
    "Submitting inputs",
    "Recording outputs",
    "Completed",
)
PERCENT_OF_A_STEP: Final = 25


def event_facts(image: Image, load: LoadTest) -> Members:
    """What events of a delivered image tell beside the facts of the core."""
    shown = image_object(image, load)
    return {"status": shown["status"], "containerImage": shown}


def image_object(image: Image, load: LoadTest) -> Members:
    """The object as callers see it. `load` counts only when it is about this image.

    The image must be one that was delivered to a version.
    """
    load = load if load.image == image.uuid else LoadTest()
    is_link = image.source is ImageSource.REFERENCE
    uploaded, step, name = image.upload.percentage, load.step, _step_name(image, load.step)
    return {
        "uploadStatus": name,
        "loadStatus": f"{step}: {name} ({load.percentage}%)",
        "uploadPercentage": uploaded,
        "loadPercentage": load.percentage,
        "containerImageSize": (image.size_bytes or 0) if is_link else image.upload.done_bytes,
        **_place(image),
        "percentage": uploaded,
        "step": step,
        "stepName": name,
        "status": _status(image, load),
        "technicalInformation": _technical(image, load),
    }


def _step_name(image: Image, step: int) -> str:
    model = image.delivery.model_name if image.delivery else image.name
    return (UPLOADING, f"Loading model '{model}'", CHECKING)[step]


def _status(image: Image, load: LoadTest) -> str:
    if has_failed(image) or load.phase is Phase.FAILED:
        return "failed"
    if image.status is not ImageStatus.READY:
        return "uploading"
    if load.phase is Phase.SUCCEEDED:
        return "loaded"
    return "loading" if load.phase is Phase.RUNNING else "uploaded"


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


def time_text(at: datetime) -> str:
    """`2021-07-20T01:40:11.187+00:00`: some clients do not read a Z."""
    return at.isoformat(timespec="milliseconds")


def model(versioned: Versioned) -> Members:
    """A model, under both names that clients know its identifier by."""
    record = versioned.model
    picture = record.picture_description
    return {
        "identifier": record.uuid,
        "modelId": record.uuid,
        "name": record.name,
        "description": record.description,
        "tags": record.tags,
        "latestVersion": versioned.latest,
        "latestActiveVersion": versioned.latest_active,
        "versions": [each.version for each in versioned.versions],
        "isActive": versioned.latest_active is not None,
        "image": None if picture is None else {"description": picture},
        "createdAt": time_text(record.created_at),
        "updatedAt": time_text(record.updated_at),
    }


def version_line(record: ModelVersion) -> Members:
    """A version in a list."""
    return {
        "identifier": record.model,
        "version": record.version,
        "status": record.activation.value,
        "isActive": record.activation.value == "active",
        "createdAt": time_text(record.created_at),
        "updatedAt": time_text(record.updated_at),
    }


def version(record: ModelVersion, image: Image | None, outputs: Members) -> Members:
    """A whole version. `outputs` are those of its newest trial run."""
    shown = image_object(image, record.load) if image else None
    return {
        **version_line(record),
        "requirement": requirement(record.requirement),
        "timeout": {"run": record.timeouts.run_ms, "status": record.timeouts.status_ms},
        "inputs": [_camel(each) for each in record.inputs],
        "outputs": [_camel(each) for each in record.outputs],
        "statistics": json.loads(record.statistics),
        "processing": {
            "minimumParallelCapacity": record.processing.minimum,
            "maximumParallelCapacity": record.processing.maximum,
        },
        "longDescription": record.long_description,
        "technicalDetails": record.technical_details,
        "performanceSummary": record.performance_summary,
        "containerImage": shown,
        "loadStatus": _load_step(shown),
        "runStatus": run_process(record.run, outputs, record.outputs),
        "sampleInput": record.sample_input,
        "sampleOutput": record.sample_output,
    }


def load_process(record: ModelVersion, image: Image | None) -> Members:
    """How far the load test is, also before there is anything to test."""
    shown = image_object(image, record.load) if image else None
    status = shown["status"] if shown else "uploading"
    return {**_load_step(shown), "status": status}


def _load_step(shown: Members | None) -> Members:
    """Of the container image object, or of what stands for it before there is one."""
    return {
        "step": shown["step"] if shown else 0,
        "stepName": shown["stepName"] if shown else UPLOADING,
        "percentage": shown["loadPercentage"] if shown else 0,
    }


def run_process(run: TrialRun, outputs: Members, declared: Sequence[ModelOutput] = ()) -> Members:
    """How far the newest trial run is; `outputs` count once it has ended.

    What is declared and was not given is null.
    """
    is_over = run.phase in (Phase.SUCCEEDED, Phase.FAILED)
    step = len(RUN_STEPS) - 1 if is_over else run.step
    return {
        "step": step,
        "stepName": RUN_STEPS[step],
        "percentage": step * PERCENT_OF_A_STEP,
        "result": _result(run, outputs, declared) if is_over else None,
    }


def _result(run: TrialRun, outputs: Members, declared: Sequence[ModelOutput]) -> Members:
    fault = run.fault
    ended_at = time_text(run.ended_at) if run.ended_at else None
    facts = {
        "status": "SUCCESSFUL" if run.phase is Phase.SUCCEEDED else "FAILED",
        "engine": run.engine,
        "error": fault.message if fault else None,
        "technicalInformation": fault.technical if fault else None,
        "startTime": time_text(run.started_at) if run.started_at else None,
        "endTime": ended_at,
        "updateTime": ended_at,
        "inputSize": run.input_size,
        "elapsedTime": run.elapsed_ms,
    }
    absent = dict.fromkeys((RESULTS, *(each.name for each in declared)))
    return {**absent, **outputs, **facts}


def requirement(id: int) -> Members:
    found = find_requirement(id)
    return {
        "requirementId": found.id,
        "status": "ACTIVE",
        "cpuAmount": f"{found.cpus * 1000}m",
        # Whole gibibytes: clients cut the text at the G.
        "memoryAmount": f"{found.memory_gib}Gi",
        "gpuUnits": found.gpus,
    }


def _camel(record: ModelInput | ModelOutput) -> Members:
    return {to_camel(name): value for name, value in record.model_dump().items()}
