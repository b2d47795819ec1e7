"""Deployments that nobody calls have no replica, and get one when somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from pipeline.adapters.http.resolving import Rules
from pipeline.adapters.http.streaming import StreamingHttp
from pipeline.deployments.activation import Activation, Call, Replica
from pipeline.deployments.decision import CRASHES
from pipeline.errors import NoReplica, NotFound, Overloaded
from pipeline.events.hub import EventHub
from pipeline.gateway.service import mark_used
from pipeline.records.kernel import Change
from pipeline.topology import parse_event
from schemas.container import PortSpec
from schemas.deployment import AutoscalePolicy, Deployment, ReplicaSpec, ScalingSchedule
from schemas.message import Message
from schemas.states import ContainerStatus
from schemas.states import DeploymentStatus as Status
from tests.support.engines.deploying import Deploying
from tests.support.engines.node_rig import ORG
from tests.support.event_log import FakeEventLog
from tests.support.models.upstreams import upstream
from tests.support.waiting import eventually

RUNNING = ContainerStatus.RUNNING


class Waking:
    """One server's side of it, and a system that a test lets take its steps."""

    def __init__(self, deploying: Deploying, hub: EventHub, http: StreamingHttp) -> None:
        self.deploying = deploying
        self.rig = deploying.rig
        self.hub = hub
        self._http = http

    def activation(self, *, wait_s: float = 30, waiting_max: int = 200) -> Activation:
        given = {"activation_wait_s": wait_s, "activation_waiting_max": waiting_max}
        return Activation(self.rig.records, self._http, self.rig.settings.model_copy(update=given))

    async def template(self, **spec: Any) -> ReplicaSpec:
        return await self.deploying.template(**{"ports": [PortSpec(internal=8080)]} | spec)

    async def resting(self, *, template: ReplicaSpec | None = None, **spec: Any) -> Deployment:
        template = template or await self.template()
        return await self.deploying.settled(await self.deploying.create(0, template, **spec))

    async def is_demanded(self, deployment: Deployment) -> bool:
        return (await self.deploying.record(deployment)).replicas > 0

    async def woken(self, deployment: Deployment, *waits: asyncio.Task[Sequence[Replica]]) -> None:
        """Let the system bring up what is asked for."""
        await eventually(lambda: self.is_demanded(deployment))
        await self.deploying.settled(deployment)
        await asyncio.gather(*waits)


@pytest.fixture
async def waking(deploying: Deploying) -> AsyncIterator[Waking]:
    log = FakeEventLog()
    async with (
        EventHub.open(log, buffer_frames=16) as hub,  # type: ignore[arg-type]
        StreamingHttp.open(Rules(allow_local=True)) as http,
    ):
        await log.opened.wait()
        publish = deploying.rig.sent.publish

        async def told(message: Message, *, timeout_s: float = 5) -> int:
            if message.subject.startswith("yard.evt."):
                about = parse_event(message.subject)
                log.happen(about.kind, org=about.org, resource=about.resource, id=about.id)
            return await publish(message, timeout_s=timeout_s)

        deploying.rig.sent.publish = told  # type: ignore[method-assign]
        yield Waking(deploying, hub, http)


def waiting(
    waking: Waking, activation: Activation, of: Deployment
) -> asyncio.Task[Sequence[Replica]]:
    return asyncio.create_task(activation.ready(of, waking.hub))  # type: ignore[arg-type]


async def test_two_hundred_who_wait_ask_once_and_get_one_replica(waking: Waking) -> None:
    deployment = await waking.resting()
    assert (deployment.status, deployment.slots) == (Status.SCALED_DOWN, [])
    activation = waking.activation()
    waits = [waiting(waking, activation, deployment) for _ in range(200)]
    await eventually(lambda: waking.is_demanded(deployment))
    with pytest.raises(Overloaded) as refused:
        await activation.ready(deployment, waking.hub)
    assert refused.value.facts["retry_after_s"] > 0
    await waking.woken(deployment, *waits)
    (replica,) = await waking.deploying.containers(deployment)
    assert {each.container.uuid for wait in waits for each in wait.result()} == {replica.uuid}
    told = waking.rig.sent.kinds(deployment.uuid)
    assert told == ["created", "scaled-down", "demanded", "deploying", "deployed"]


async def test_the_time_to_become_ready_begins_with_the_call(waking: Waking) -> None:
    deployment = await waking.resting(rollout_timeout_s=10)
    since = deployment.rollout_since - timedelta(minutes=1)
    deployment = await waking.rig.records.commit(deployment, Change({"rollout_since": since}))
    await waking.woken(deployment, waiting(waking, waking.activation(), deployment))
    assert (await waking.deploying.record(deployment)).status is Status.DEPLOYED


async def test_whoever_leaves_ends_his_wait_alone(waking: Waking) -> None:
    deployment = await waking.resting()
    activation = waking.activation(waiting_max=2)
    leaver, stayer = (waiting(waking, activation, deployment) for _ in range(2))
    await eventually(lambda: waking.is_demanded(deployment))
    leaver.cancel()
    await asyncio.wait([leaver])
    another = waiting(waking, activation, deployment)
    await waking.woken(deployment, stayer, another)


async def test_a_replica_that_ends_while_they_wait_is_made_anew(waking: Waking) -> None:
    deployment = await waking.resting(idle_s=1)
    await waking.woken(deployment, waiting(waking, waking.activation(), deployment))
    waking.rig.clock.skip(2)
    await waking.deploying.reconciler.sweep_idle()
    await waking.deploying.settled(deployment)
    wait = waiting(waking, waking.activation(), deployment)
    await eventually(lambda: waking.is_demanded(deployment))
    await waking.deploying.reconciler.reconcile(ORG, deployment.uuid)
    (second,) = await waking.deploying.containers(deployment)
    await waking.rig.containers.delete(waking.rig.caller, second.uuid)
    await waking.woken(deployment, wait)
    assert [each.container.replica for each in wait.result()] == [3]


async def test_who_waits_for_what_fails_at_its_first_start_is_told_why(waking: Waking) -> None:
    deployment = await waking.resting()
    wait = waiting(waking, waking.activation(wait_s=600), deployment)
    await eventually(lambda: waking.is_demanded(deployment))
    await waking.deploying.reconciler.reconcile(ORG, deployment.uuid)
    (first,) = await waking.deploying.containers(deployment)
    crashed = Change({"restarts": CRASHES}, status=ContainerStatus.PLACED)
    await waking.rig.records.commit(first, crashed)
    again = Change(status=ContainerStatus.RESTARTING, reason="exited with code 1")
    await waking.rig.records.commit(await waking.rig.record(first), again)
    await waking.deploying.settled(deployment)
    with pytest.raises(NoReplica, match=r"becomes ready: .*replica 1.*exited with code 1"):
        await wait


async def test_who_cannot_be_served_in_time_is_told_what_nodes_say(waking: Waking) -> None:
    deployment = await waking.resting(template=await waking.template(gpus=4))
    await waking.deploying.deployed(1, name="other", template=await waking.template(gpus=1))
    activation = waking.activation(wait_s=1)
    wait = waiting(waking, activation, deployment)
    await eventually(lambda: waking.is_demanded(deployment))
    await waking.deploying.round(deployment)
    with pytest.raises(NoReplica, match=r"was ready within 1 s: 0 of 1 .*") as late:
        await wait
    assert list(late.value.facts["nodes"]) == ["one"]


async def test_what_can_never_be_placed_is_told_at_once(waking: Waking) -> None:
    deployment = await waking.resting(template=await waking.template(gpus=8))
    wait = waiting(waking, waking.activation(wait_s=600), deployment)
    await eventually(lambda: waking.is_demanded(deployment))
    await waking.deploying.round(deployment)
    await waking.deploying.round(deployment)
    with pytest.raises(NoReplica, match="becomes ready: 0 of 1"):
        await wait


async def test_what_its_owner_stopped_or_deleted_is_not_woken(waking: Waking) -> None:
    deployment = await waking.resting()
    service, caller = waking.deploying.service, waking.rig.caller
    await service.stop(caller, deployment.uuid)
    with pytest.raises(NoReplica, match="is stopped: start it"):
        await waking.activation().ready(await waking.deploying.record(deployment), waking.hub)
    await service.delete(caller, deployment.uuid)
    with pytest.raises(NotFound):
        await waking.activation().ready(await waking.deploying.record(deployment), waking.hub)


async def test_outside_its_windows_nobody_wakes_it(waking: Waking) -> None:
    never = ScalingSchedule(timezone="UTC", start="0 0 29 2 *", end="1 0 29 2 *")
    deployment = await waking.resting(autoscale=AutoscalePolicy(schedules=[never]))
    with pytest.raises(NoReplica, match="no replica now: outside all schedules"):
        await waking.activation().ready(deployment, waking.hub)
    assert not await waking.is_demanded(deployment)


async def test_what_nobody_ever_calls_rests_after_its_first_patience(waking: Waking) -> None:
    to_zero = AutoscalePolicy(scale_to_zero=True, cooldown_s=10, initial_cooldown_s=50)
    made = await waking.deploying.deployed(1, autoscale=to_zero)
    reconciler, clock = waking.deploying.reconciler, waking.rig.clock
    clock.skip(55)
    await reconciler.sweep_idle()
    assert await waking.is_demanded(made)
    clock.skip(7)
    await reconciler.sweep_idle()
    assert not await waking.is_demanded(made)


async def test_what_publishes_no_port_cannot_be_called(waking: Waking) -> None:
    deployment = await waking.resting(template=await waking.template(ports=[]))
    wait = waiting(waking, waking.activation(), deployment)
    with pytest.raises(NoReplica, match="publishes no port"):
        await waking.woken(deployment, wait)


async def test_a_slug_finds_its_deployment_in_ones_own_organisation(waking: Waking) -> None:
    deployment = await waking.resting()
    service, caller = waking.deploying.service, waking.rig.caller
    assert (await service.called(caller, deployment.slug)).uuid == deployment.uuid
    stranger = caller.model_copy(update={"org": "other"})
    for who, slug in ((stranger, deployment.slug), (caller, f"x{deployment.slug}"), (caller, "")):
        with pytest.raises(NotFound):
            await service.called(who, slug)


async def test_it_rests_again_when_nobody_calls_it(waking: Waking) -> None:
    deployment = await waking.resting(idle_s=100)
    await waking.woken(deployment, waiting(waking, waking.activation(), deployment))
    reconciler, clock = waking.deploying.reconciler, waking.rig.clock
    for _ in range(3):
        clock.skip(90)
        await mark_used(waking.rig.store, await waking.deploying.record(deployment), clock())
        await reconciler.sweep_idle()
        assert await waking.is_demanded(deployment)
    clock.skip(111)
    async with waking.activation().used(deployment):

        async def is_used() -> bool:
            idle_at = (await waking.deploying.record(deployment)).idle_at
            return idle_at is not None and idle_at > clock()

        await eventually(is_used)
        await reconciler.sweep_idle()
        assert await waking.is_demanded(deployment)
    clock.skip(111)
    await reconciler.sweep_idle()
    rested = await waking.deploying.settled(deployment)
    assert (rested.status, rested.slots, rested.idle_at) == (Status.SCALED_DOWN, [], None)
    assert await waking.deploying.containers(deployment) == []


async def test_what_keeps_replicas_or_has_a_rule_of_its_own_rests_as_that_says(
    waking: Waking,
) -> None:
    kept = await waking.deploying.deployed(1)
    to_zero = AutoscalePolicy(scale_to_zero=True, cooldown_s=10)
    ruled = await waking.deploying.deployed(1, name="ruled", autoscale=to_zero)
    for each in (kept, ruled):
        await mark_used(waking.rig.store, each, waking.rig.clock())
    waking.rig.clock.skip(12)
    await waking.deploying.reconciler.sweep_idle()
    assert await waking.is_demanded(kept)
    assert not await waking.is_demanded(ruled)


@asynccontextmanager
async def called(waking: Waking, of: Deployment, call: Call) -> AsyncIterator[Any]:
    async with waking.activation().call(of, call, waking.hub) as answer:
        yield answer


async def test_a_replica_that_listens_late_is_asked_again(waking: Waking) -> None:
    """Without a probe nothing tells when it does."""
    deployment = await waking.resting()
    await waking.woken(deployment, waiting(waking, waking.activation(), deployment))
    (replica,) = await waking.deploying.containers(deployment, RUNNING)
    call = Call("GET", b"/x?y=%2F", [(b"host", b"h")], None)

    async def asked() -> bytes:
        async with called(waking, deployment, call) as answer:
            return b"".join([piece async for piece in answer.pieces])

    asking = asyncio.create_task(asked())
    async with upstream("one", port=replica.ports[0].host) as one:
        assert await asking == b"one /x?y=%2F"
        assert one.asked == ["GET /x?y=%2F"]
