"""The events alone tell what became of everything."""

from __future__ import annotations

import json
import uuid
from typing import Any

from pipeline import topology
from pipeline.adapters.bus.client import Bus
from pipeline.adapters.store.store import EVERY_ORG, Store
from schemas.base import StatefulRecord
from schemas.container import Container, OnNodeLoss
from schemas.image import Image, ImageSpec
from schemas.node import Node
from schemas.states import ContainerStatus as Status
from tests.support import records as made
from tests.support.engines.node_rig import NodeRig, node_rig
from tests.support.events import stored_events

KINDS: dict[str, type[StatefulRecord]] = {kind.resource: kind for kind in (Image, Container, Node)}
MAKE = {"image": made.image, "container": made.container, "node": made.node}


async def test_the_event_stream_replayed_into_an_empty_database_gives_the_same_statuses(
    store: Store, bus: Bus, mongo_url: str
) -> None:
    async with node_rig(store, bus=bus) as rig:
        await live(rig)
    events = [stored async for stored in stored_events(bus, None)]
    async with Store.open(mongo_url, f"replay-{uuid.uuid4().hex}") as empty:
        await replay(empty, [json.loads(stored.data) | about(stored) for stored in events])
        for kind in (Container, Node):
            assert await statuses(empty, kind) == await statuses(store, kind)
        # Of images, the rig inserts those that are ready without a word.
        replayed = await statuses(empty, Image)
        assert replayed.items() <= (await statuses(store, Image)).items()
        assert len(replayed) == 2


async def live(rig: NodeRig) -> None:
    """As many different lives as there is room for."""
    images = [
        await rig.containers._images.submit(rig.caller, ImageSpec(reference="r.test/x:1")),
        await rig.containers._images.submit(rig.caller, ImageSpec(reference="r.test/y:1")),
    ]
    await rig.containers._images.delete(rig.caller, images[0].uuid)
    stopped, deleted = await rig.up(await rig.image()), await rig.up(gpus=1)
    failed, restarted = await rig.up(restart="no"), await rig.up()
    replaced, lost = await rig.up(), await rig.up(on_node_loss=OnNodeLoss.WAIT)
    assert (await rig.run(gpus=2)).status is Status.REQUESTED
    assert (await rig.run(gpus=9)).status is Status.FAILED
    await rig.containers.stop(rig.caller, stopped.uuid)
    await rig.containers.delete(rig.caller, deleted.uuid)
    await rig.hand_over()
    for container in (failed, restarted):
        made = next(m for m in rig.world.containers.values() if container.uuid in m.name)
        rig.world.die(made, 1)
        await rig.agent.watching.look(container.uuid)
    await rig.until(restarted, Status.RUNNING, restarts=1)
    for _ in range(6):
        await rig.nodes.sweep()
        rig.clock.skip(5)
    assert (await rig.record(replaced)).status is Status.REQUESTED
    assert (await rig.record(lost)).status is Status.LOST


def about(stored: Any) -> dict[str, Any]:
    return {"resource": topology.parse_event(stored.subject).resource, "at": stored.time}


async def replay(empty: Store, events: list[dict[str, Any]]) -> None:
    """Along the transition tables, which no event may break. What happened to one record is told
    in the order of its revisions; the broker may have got it in another."""
    for event in sorted(events, key=lambda event: event["revision"]):
        kind = KINDS[event["resource"]]
        record = await empty.find_one(kind, org=EVERY_ORG, where={"_id": event["id"]})
        if record is None:
            first = kind.model_fields["status"].annotation(event["status"])  # type: ignore[misc]
            given = {"uuid": event["id"], "org": event["org"], "status": first}
            record = await empty.insert(MAKE[event["resource"]](**given))
        status = type(record.status)(event["status"])
        await empty.change(record, {}, at=event["at"], status=status, reason=event["reason"])


async def statuses(store: Store, kind: type[StatefulRecord]) -> dict[str, tuple[str, str | None]]:
    found = await store.find(kind, org=EVERY_ORG, sort=())
    return {record.uuid: (record.status.value, record.reason) for record in found}
