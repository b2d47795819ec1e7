"""One run of a stack, from the first piece to the last trace."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from pipeline import concurrency
from pipeline.adapters.engine.docker import DockerEngine
from pipeline.adapters.store.store import Store
from pipeline.own_registry.collection import RegistryCollector
from pipeline.own_registry.fence import RegistryFence
from pipeline.settings import Settings
from pipeline.stack.broker_users import BrokerUsers
from pipeline.stack.collection import SupervisedRegistry
from pipeline.stack.credentials import issue_credentials
from pipeline.stack.pieces import dockerd
from pipeline.stack.pieces.dockerd import DockerdPiece
from pipeline.stack.pieces.nats import NatsPiece
from pipeline.stack.pieces.registry import RegistryPiece
from pipeline.stack.plan import Plan, StartOptions, make_plan
from pipeline.stack.processes import probes
from pipeline.stack.processes.piece import Report, Supervisor
from pipeline.stack.processes.probes import Claims
from pipeline.stack.processes.process import Owner, rotate
from pipeline.stack.state import Keys, Run, State

STOP_TIMEOUT_S = 120.0

Facts = dict[str, str]


async def run_stack(
    settings: Settings,
    environ: Mapping[str, str],
    options: StartOptions,
    *,
    report: Report,
    ready: Callable[[Facts], None],
) -> None:
    """Starts everything, calls `ready` with what `.modelyard/env` says, stops on SIGINT or SIGTERM.

    Raises Misconfigured or Conflict when it cannot start; nothing is left behind then either.
    Must be called in the main thread: the pieces end with the thread that started them.
    """
    state = State(settings.state)
    state.create()
    with state.held(), Claims() as claims:
        await _clear(state)
        keys = Keys.load(state.keys_file, org=settings.org)
        plan = await make_plan(settings, environ, state, keys, claims, options)
        supervisor = Supervisor([plan.base, plan.apps], report=report)
        run = _record_run(state, plan)
        stopping = _stop_signals()
        rotation = asyncio.create_task(rotate(state.logs))
        try:
            if await _unless(stopping, supervisor.start()):
                ready(await _publish(settings, state, keys, plan, run))
                async with (
                    _collecting(settings, plan, supervisor, report),
                    _admitting(settings, plan, state),
                ):
                    await stopping.wait()
        finally:
            rotation.cancel()
            await supervisor.stop()
            await _clear(state)


async def take_down(state: State) -> bool:
    """Stops what runs from this folder and clears up. False when nothing ran. Idempotent."""
    if not state.folder.exists():
        return False
    run = state.run
    ran = run is not None and run.supervisor.alive
    if run is not None and ran:
        await _end(run.supervisor)
    with state.held():
        await _clear(state)
    return ran


@asynccontextmanager
async def _collecting(
    settings: Settings, plan: Plan, supervisor: Supervisor, report: Report
) -> AsyncIterator[None]:
    """While open, space of the registry is given back, when it is ours and there is a store."""
    registry = next((piece for piece in plan.base if isinstance(piece, RegistryPiece)), None)
    url = plan.addresses.get("MODELYARD_MONGO_URL")
    if registry is None or url is None:
        yield
        return
    async with Store.open(url, settings.mongo_database) as store:
        fence = RegistryFence(store, settings.org)
        every = timedelta(seconds=settings.registry_collect_interval_s)
        supervised = SupervisedRegistry(registry, supervisor)
        collector = RegistryCollector(supervised, fence, every=every, report=report)
        running = asyncio.create_task(collector.run(), name="registry collector")
        try:
            yield
        finally:
            await concurrency.cancel_and_wait(running)


@asynccontextmanager
async def _admitting(settings: Settings, plan: Plan, state: State) -> AsyncIterator[None]:
    """While open, every organisation has a user of the broker, when it is ours and has a store."""
    nats = next((piece for piece in plan.base if isinstance(piece, NatsPiece)), None)
    url = plan.addresses.get("MODELYARD_MONGO_URL")
    if nats is None or url is None:
        yield
        return
    async with Store.open(url, settings.mongo_database) as store:
        users = BrokerUsers(store, nats, state)
        running = asyncio.create_task(users.run(), name="users of the broker")
        try:
            yield
        finally:
            await concurrency.cancel_and_wait(running)


def _record_run(state: State, plan: Plan) -> Run:
    me = Owner.me()
    run = Run(
        pid=me.pid,
        started=me.started,
        shared_engine=plan.shared_engine,
        installation=plan.installation,
    )
    state.write_run(run)
    return run


async def _publish(settings: Settings, state: State, keys: Keys, plan: Plan, run: Run) -> Facts:
    """Writes `.modelyard/env`, the sign that the stack is ready."""
    facts = plan.addresses | {"MODELYARD_STATE": str(state.folder)}
    if any(piece.name == "api" for piece in plan.apps):
        password = plan.app_env["MODELYARD_ADMIN_PASSWORD"]
        keys = keys.model_copy(update={"admin_password": password})
        keys, organisation = await issue_credentials(settings, keys, plan.app_env)
        keys.save(state.keys_file)
        facts |= {
            "MODELYARD_TOKEN": keys.token,
            "MODELYARD_API_KEY": keys.api_key,
            "MODELYARD_ORG": settings.org,
            "MODELYARD_ORG_ID": organisation,
            "MODELYARD_ADMIN_USER": settings.admin_user,
            "MODELYARD_ADMIN_PASSWORD": password,
        }
    state.write_addresses(plan.addresses)
    state.write_env(facts)
    state.write_run(run.model_copy(update={"ready": True}))
    return facts


def _stop_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Does the work unless it is to stop before the end; False then."""
    doing = asyncio.create_task(work)
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait([doing, waiting], return_when=asyncio.FIRST_COMPLETED)
    finished = doing.done()
    waiting.cancel()
    if not finished:
        doing.cancel()
    await asyncio.gather(doing, return_exceptions=not finished)
    return finished


async def _clear(state: State) -> None:
    """Containers on a shared engine, the network of a private one. Idempotent.

    Raises EngineError when an engine that answers does not let go of a container.
    """
    run = state.run
    if run is not None and run.shared_engine:
        await _remove_containers(run.shared_engine, run.installation)
    if state.piece("dockerd").exists():
        await DockerdPiece(state.piece("dockerd"), log=state.log("dockerd")).clean()
    state.forget_run()


async def _end(owner: Owner) -> None:
    """SIGTERM, then SIGKILL: its children cannot outlive it."""

    async def gone() -> bool:
        return not owner.alive

    os.kill(owner.pid, signal.SIGTERM)
    if not await probes.until(gone, timeout_s=STOP_TIMEOUT_S, every_s=0.05):
        os.kill(owner.pid, signal.SIGKILL)
        await probes.until(gone, timeout_s=10)


async def _remove_containers(docker_host: str, installation: str) -> None:
    if not await dockerd.answers(docker_host):
        return
    async with DockerEngine.open(docker_host) as engine:
        ours = await engine.list({"modelyard.installation": installation})
        await asyncio.gather(*(engine.remove(container.id) for container in ours))
