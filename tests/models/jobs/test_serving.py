"""What asking for a container costs when one answers calls already, and when it is gone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pipeline.access.roles import acting_for
from pipeline.models.jobs.serving import ServingJobs
from pipeline.models.service import load
from pipeline.records.kernel import Records
from pipeline.settings import Settings
from schemas.container import Container
from schemas.image import Delivery, Image
from schemas.model import LoadTest, ModelVersion, Phase, Serving
from schemas.states import ContainerStatus, ImageStatus
from tests.support import records
from tests.support.records import AT, ORG

IMAGE = records.image(
    status=ImageStatus.READY,
    delivery=Delivery(identifier="model", model_name="model", version="1.0.0"),
)


class Store:
    """One version and its container. Nothing is written unless it says so."""

    def __init__(self, status: ContainerStatus) -> None:
        self.container = records.container(status=status)
        self.asked: list[type] = []
        self.written: list[dict[str, Any]] = []
        self.version = ModelVersion(
            uuid="version",
            org=ORG,
            created_at=AT,
            updated_at=AT,
            model="model",
            model_name="model",
            version="1.0.0",
            image=IMAGE.uuid,
            load=LoadTest(id="load", phase=Phase.SUCCEEDED, image=IMAGE.uuid),
            serve=Serving(id="start", phase=Phase.SUCCEEDED, container=self.container.uuid),
        )

    async def get(self, kind: type, uuid: str, *, org: str) -> ModelVersion:
        self.asked.append(kind)
        return self.version

    async def find_by_id(self, kind: type, uuid: str | None, *, org: str) -> Container:
        self.asked.append(kind)
        return self.container

    async def change(self, record: ModelVersion, values: dict[str, Any], **_: Any) -> ModelVersion:
        self.written.append(values)
        self.version = record.model_copy(update={**values, "revision": record.revision + 1})
        return self.version


class Outbox:
    async def send(self, record: Any) -> bool:
        return True


class Deliveries:
    async def current(self, version: ModelVersion) -> Image:
        return IMAGE


def serving(store: Store) -> ServingJobs:
    kernel = Records(cast(Any, store), cast(Any, Outbox()), clock=lambda: AT)
    return ServingJobs(kernel, cast(Any, Deliveries()), cast(Any, None), Settings())


async def asked_for(store: Store) -> ModelVersion:
    version = await load(cast(Any, store), ORG, "model", "1.0.0")
    return await serving(store).request(acting_for(ORG, "somebody"), version)


async def test_a_call_that_finds_a_container_reads_its_version_once() -> None:
    store = Store(ContainerStatus.RUNNING)
    assert (await asked_for(store)).serve.id == "start"
    assert store.asked == [ModelVersion, Container]
    assert store.written == []


@pytest.mark.parametrize("status", [ContainerStatus.STOPPED, ContainerStatus.FAILED])
async def test_a_container_that_is_gone_is_out_of_use_before_another_is_asked_for(
    status: ContainerStatus,
) -> None:
    store = Store(status)
    version = await asked_for(store)
    ended, started = store.written
    assert [each.id for each in ended["ending"]] == ["start"]
    assert ended["serve"] == Serving()
    assert started["serve"].phase is Phase.RUNNING
    assert version.serve.id != "start"
