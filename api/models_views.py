"""Models and versions as callers see them: camel case, whole numbers, times with an offset."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from starlette.responses import Response

from api.answers import JSON
from pipeline.core.models import Versioned
from pipeline.rules import container_image, model_requirements
from schemas.image import Image
from schemas.model import ModelInput, ModelOutput, ModelVersion

Members = dict[str, Any]


def answer(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), status, media_type=JSON)


def time_text(at: datetime) -> str:
    """`2021-07-20T01:40:11.187+00:00`: some clients do not read a Z."""
    return at.isoformat(timespec="milliseconds")


def model(versioned: Versioned) -> Members:
    """A model, under both names that clients know its identifier by."""
    record = versioned.model
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
        "image": _picture(record.picture_description),
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


def version(record: ModelVersion, image: Image | None, run: Members) -> Members:
    """A whole version. `run` is what `GET …/run-process` shows."""
    shown = image_object(record, image)
    return {
        **version_line(record),
        "requirement": requirement(record.requirement),
        "timeout": {"run": record.timeouts.run_ms, "status": record.timeouts.status_ms},
        "inputs": [_input(each) for each in record.inputs],
        "outputs": [_output(each) for each in record.outputs],
        "statistics": json.loads(record.statistics),
        "processing": {
            "minimumParallelCapacity": record.processing.minimum,
            "maximumParallelCapacity": record.processing.maximum,
        },
        "longDescription": record.long_description,
        "technicalDetails": record.technical_details,
        "performanceSummary": record.performance_summary,
        "containerImage": shown,
        "loadStatus": {
            "step": shown["step"] if shown else 0,
            "stepName": shown["stepName"] if shown else container_image.UPLOADING,
            "percentage": shown["loadPercentage"] if shown else 0,
        },
        "runStatus": run,
        "sampleInput": record.sample_input,
        "sampleOutput": record.sample_output,
    }


def image_object(record: ModelVersion, image: Image | None) -> Members | None:
    """None before any delivery."""
    return None if image is None else container_image.describe(image, record.load)


def load_process(record: ModelVersion, image: Image | None) -> Members:
    """How far the load test is, also before there is anything to test."""
    shown = image_object(record, image)
    if shown is None:
        return {
            "step": 0,
            "stepName": container_image.UPLOADING,
            "percentage": 0,
            "status": "uploading",
        }
    return {
        "step": shown["step"],
        "stepName": shown["stepName"],
        "percentage": shown["loadPercentage"],
        "status": shown["status"],
    }


def requirement(id: int) -> Members:
    found = model_requirements.find(id)
    return {
        "requirementId": found.id,
        "status": "ACTIVE",
        "cpuAmount": found.cpu_amount,
        "memoryAmount": found.memory_amount,
        "gpuUnits": found.gpus,
    }


def _input(record: ModelInput) -> Members:
    return {
        "name": record.name,
        "acceptedMediaTypes": record.accepted_media_types,
        "maximumSize": record.maximum_size,
        "description": record.description,
    }


def _output(record: ModelOutput) -> Members:
    return {
        "name": record.name,
        "mediaType": record.media_type,
        "maximumSize": record.maximum_size,
        "description": record.description,
    }


def _picture(description: str | None) -> Members | None:
    return None if description is None else {"description": description}
